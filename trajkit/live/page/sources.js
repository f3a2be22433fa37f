"use strict";
// Where runs come from: the server that served the page, or the page itself.
const sources = (() => {
  const PAGE = 50;

  class Refused extends Error {
    constructor(status, message) {
      super(message);
      this.status = status;
    }
  }

  async function asked(url, options) { // JSON; raises Refused with the server's own words
    let answer;
    try {
      answer = await fetch(url, options);
    } catch {
      throw new Refused(0, "The server does not answer.");
    }
    let body = null;
    try {
      body = await answer.json();
    } catch { /* said below */ }
    if (answer.ok && body) return body;
    if (answer.status === 401) throw new Refused(401, "This page needs the server's token: open the link that was printed where it runs, …/?token=…");
    throw new Refused(answer.status, (body && body.error && words.capital(body.error.message)) || `The server answers ${answer.status}.`);
  }

  const runUrl = (id) => `api/runs/${encodeURIComponent(id)}`;

  class Server {
    constructor() { this.embedded = false; }

    list(query) { return asked(`api/runs?${query}`); }

    run(id) { return asked(runUrl(id)); }

    label(id, label) {
      return asked(`${runUrl(id)}/label`, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ label }) });
    }

    follow(id, take, told) { return new Following(id, take, told); }
  }

  // Events of a live run, each once, whatever becomes of the connection. told: "open", "lost", or an Error for good.
  class Following {
    constructor(id, take, told) {
      Object.assign(this, { id, take, told, last: -1, wait: 1000, closed: false });
      this.connect();
    }

    connect() {
      this.stream = new EventSource(`${runUrl(this.id)}/events`);
      this.stream.onopen = () => { this.wait = 1000; this.told("open"); };
      this.stream.onmessage = (message) => this.take1(message);
      this.stream.onerror = () => this.failed();
    }

    take1(message) {
      const number = Number(message.lastEventId), event = JSON.parse(message.data);
      if (number <= this.last && event.event !== "end") return; // a new connection begins at the first; an end is told in any case
      this.last = number;
      if (event.event === "end") this.close();
      this.take(event);
    }

    async failed() {
      if (this.closed) return;
      this.told("lost");
      if (this.stream.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      try {
        await asked(runUrl(this.id));
      } catch (error) {
        if (this.closed) return;
        if (error.status === 401 || error.status === 404) return this.told(error);
      }
      this.timer = setTimeout(() => this.closed || this.connect(), this.wait);
      this.wait = Math.min(2 * this.wait, 15000);
    }

    close() {
      this.closed = true;
      clearTimeout(this.timer);
      this.stream.close();
    }
  }

  // ---- runs in the page -------------------------------------------------------------------------------------------
  const FACETS = ["outcome", "task", "model", "state", "label", "alarmed"];
  const SEARCHED = ["question", "id", "task", "group", "model", "answer", "target"], DOWN = ["began", "n_steps", "risk"];
  const NONE = "none";
  const missing = (value) => value === null || value === undefined || value === "";
  const valueOf = (row, key) => (key === "alarmed" ? (missing(row.alarm) ? "no" : "yes") : row[key] || NONE);

  function says(row, query) {
    const text = SEARCHED.map((key) => row[key] || "").join("\n").toLowerCase();
    return (query.get("search") || "").toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }

  const wanted = (row, query, but) => FACETS.every((key) => key === but || !query.get(key) || query.getAll(key).includes(valueOf(row, key)));

  function counts(rows, query, key) { // of each value, were the facet's own filter taken away
    const out = {};
    for (const row of rows) out[valueOf(row, key)] = (out[valueOf(row, key)] || 0) + Number(says(row, query) && wanted(row, query, key));
    return Object.fromEntries(Object.entries(out).sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  function sorted(rows, key, order) {
    if (!key) return rows;
    const outcomes = Object.keys(words.OUTCOMES), sign = (order || (DOWN.includes(key) ? "down" : "up")) === "up" ? 1 : -1;
    const rank = (row) => (key === "outcome" ? outcomes.indexOf(row[key]) : key === "question" ? row[key].toLowerCase() : row[key]);
    return [...rows].sort((a, b) => missing(a[key]) - missing(b[key]) || sign * (rank(a) > rank(b) ? 1 : rank(a) < rank(b) ? -1 : 0));
  }

  class Embedded {
    constructor(payload) {
      this.embedded = true;
      this.payload = payload;
    }

    async list(parameters) {
      const query = new URLSearchParams(parameters), rows = this.payload.runs;
      const found = sorted(rows.filter((row) => says(row, query) && wanted(row, query)), query.get("sort"), query.get("order"));
      const from = Number(query.get("offset") || 0), most = Number(query.get("limit") || PAGE);
      const facets = Object.fromEntries(FACETS.map((key) => [key, counts(rows, query, key)]));
      return { total: found.length, all: rows.length, runs: found.slice(from, from + most), facets, labels: false, live: false };
    }

    async run(id) {
      const found = this.payload.runs.find((one) => one.id === id);
      if (!found) throw new Refused(404, "This page does not hold that run.");
      return found;
    }
  }

  function here() {
    const payload = document.getElementById("payload");
    return payload ? new Embedded(JSON.parse(payload.textContent)) : new Server();
  }

  return { here, FACETS, PAGE };
})();
