"use strict";
// The list of runs: search, filters with counts, sort; 50 at a time, asked for again while runs may come.
const list = (() => {
  const { make, button } = dom;
  const AGAIN = 2000, PAGE = sources.PAGE, MOST = 500;
  const FILTERS = [["outcome", "Outcome"], ["alarmed", "Alarm"], ["state", "State"], ["label", "Label by hand"], ["task", "Task"], ["model", "Model"]];
  const SORTS = [["", "as they come"], ["began", "time"], ["risk", "risk"], ["n_steps", "steps"], ["question", "question"], ["outcome", "outcome"]];
  const FALLING = ["began", "risk", "n_steps"];
  const KEYS = ["search", "sort", "order", ...FILTERS.map(([key]) => key)];

  class List {
    // app: {source, address(id), ask(query), open(id), listed()}
    constructor(app) {
      Object.assign(this, { app, rows: new Map(), order: [], total: 0, asked: 0, query: null, live: false, labels: false, fresh: null, busy: false });
      this.search = make("input", { type: "search", placeholder: "Search questions, answers, ids", "aria-label": "Search", title: "Key /" });
      this.sort = make("select", { "aria-label": "Sort by" }, SORTS.map(([value, name]) => make("option", { value }, name)));
      this.turn = button({ class: "turned" });
      this.filters = make("div", { class: "filters" });
      this.drawer = make("details", { class: "drawer" }, make("summary", {}, "Filters"), this.filters);
      this.count = make("p", { class: "count muted", role: "status" });
      this.asking = make("p", { class: "on-paper muted" });
      this.scale = make("p", { class: "scale muted", hidden: true }, "Bars: the largest risk of each run");
      this.news = button({ class: "primary news", hidden: true, onclick: () => this.welcome() });
      this.list = make("ol", { class: "runs" });
      this.more = button({ class: "more", hidden: true, onclick: () => this.next() }, "Show more");
      this.refused = make("p", { class: "missing", role: "alert", hidden: true });
      this.warning = make("p", { class: "missing", role: "alert", hidden: true });
      this.empty = make("div", { class: "empty", hidden: true });
      const top = make("div", { class: "seek" }, this.search, make("label", {}, make("span", { class: "muted" }, "Sort "), this.sort), this.turn);
      this.element = make("section", { class: "browse", "aria-label": "Runs" }, make("aside", { "aria-label": "Filters" }, this.drawer),
        make("div", { class: "found" }, top, this.refused, this.warning, make("div", { class: "status" }, this.count, this.asking, this.news, this.scale), this.list, this.more, this.empty));
      this.listen();
    }

    listen() {
      this.search.addEventListener("input", () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.put("search", this.search.value.trim() ? [this.search.value.trim()] : []), 220); });
      this.sort.addEventListener("change", () => { this.app.ask(this.with({ sort: [this.sort.value], order: [] })); });
      this.list.addEventListener("click", (event) => this.click(event));
      rowsByKeys(this.search, this.list);
      this.turn.addEventListener("click", () => this.put("order", [this.falling() ? "up" : "down"]));
      this.near = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && this.next(), { rootMargin: "700px" });
      const wide = matchMedia("(min-width: 900px)"), arrange = () => { this.drawer.open = wide.matches; };
      wide.addEventListener("change", arrange);
      arrange();
      setInterval(() => this.again(), AGAIN);
      document.addEventListener("visibilitychange", () => this.again());
    }

    click(event) { // a plain click keeps what the list is asked for now
      const link = event.target.closest("a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      this.app.open(link.dataset.id);
    }

    falling() {
      const order = this.query.get("order");
      return order ? order === "down" : FALLING.includes(this.query.get("sort"));
    }

    with(changes) { // the query with other values of some keys
      const query = new URLSearchParams(this.query);
      for (const [key, values] of Object.entries(changes)) {
        query.delete(key);
        values.filter(Boolean).forEach((value) => query.append(key, value));
      }
      return query;
    }

    put(key, values) { this.app.ask(this.with({ [key]: values })); }

    page(offset, limit) {
      const query = new URLSearchParams(this.query);
      query.set("limit", limit);
      query.set("offset", offset);
      return this.app.source.list(query);
    }

    // ---- asking --------------------------------------------------------------------------------------------------
    async show(query) { // from its first run on
      if (this.query && String(query) === String(this.query) && this.order.length) return this.again();
      this.query = query;
      this.fill();
      const asked = (this.asked += 1);
      let found;
      this.list.ariaBusy = "true";
      try {
        found = await this.page(0, PAGE);
      } catch (error) {
        if (asked === this.asked) this.trouble(error);
      }
      if (asked !== this.asked) return;
      this.list.ariaBusy = "false";
      if (!found) return;
      this.rows.clear();
      this.order = [];
      dom.put(this.list);
      this.take(found, found.runs);
    }

    async next() {
      if (this.busy || this.order.length >= this.total || !this.query) return;
      this.busy = true;
      const asked = this.asked;
      try {
        const found = await this.page(this.order.length, PAGE);
        if (asked === this.asked) this.take(found, [...this.order.map((id) => this.rows.get(id).row), ...found.runs]);
      } catch (error) {
        this.trouble(error);
      } finally {
        this.busy = false;
      }
    }

    async again() { // a list that may change by itself, while somebody sees it
      if (!this.query || this.busy || document.hidden || this.element.hidden || !(this.live || this.failed)) return;
      this.busy = true;
      const asked = this.asked, shown = this.order.length;
      try {
        const found = await this.page(0, Math.max(PAGE, Math.min(shown, MOST)));
        if (asked === this.asked) this.refresh(found, shown);
      } catch (error) {
        if (asked === this.asked) this.trouble(error);
      } finally {
        this.busy = false;
      }
    }

    refresh(found, shown) {
      const rest = this.order.slice(Math.max(PAGE, Math.min(shown, MOST))).map((id) => this.rows.get(id).row);
      const rows = [...found.runs, ...rest];
      const moved = rows.length !== this.order.length || rows.some((row, i) => row.id !== this.order[i]);
      if (!moved || !this.held()) return this.take(found, rows);
      this.fresh = { found, rows };
      for (const row of rows) this.update(row);
      const news = rows.filter((row) => !this.rows.has(row.id)).length;
      this.news.hidden = false;
      this.news.textContent = news ? `Show ${words.count(news, "new run")}` : "Show the new order";
      this.tell(found);
    }

    held() { // whether somebody points at a row, or has scrolled down to one
      return this.list.matches(":hover") || this.list.querySelector(":focus-visible") || scrollY > 200;
    }

    welcome() {
      this.take(this.fresh.found, this.fresh.rows);
      scrollTo({ top: 0 });
    }

    // ---- showing -------------------------------------------------------------------------------------------------
    take(found, rows) {
      const seen = new Map(rows.map((row) => [row.id, row])); // a run that has moved to the next page comes twice
      const gone = this.order.filter((id) => !seen.has(id));
      for (const id of gone) { this.rows.get(id).element.remove(); this.rows.delete(id); }
      this.order = [...seen.keys()];
      let after = null;
      for (const row of seen.values()) {
        const element = this.update(row, true);
        if ((after ? after.nextSibling : this.list.firstChild) !== element) this.list.insertBefore(element, after ? after.nextSibling : this.list.firstChild);
        after = element;
      }
      this.fresh = null;
      this.news.hidden = true;
      this.tell(found);
    }

    tell(found) {
      Object.assign(this, { total: found.total, live: found.live, labels: found.labels, failed: false });
      this.refused.hidden = true;
      this.warning.hidden = !found.trouble;
      if (this.warning.textContent !== (found.trouble || "")) this.warning.textContent = found.trouble || "";
      this.count.textContent = found.total === found.all ? words.count(found.all, "run") : `${found.total.toLocaleString("en")} of ${words.count(found.all, "run")}`;
      this.asking.textContent = this.said();
      this.scale.hidden = ![...this.rows.values()].some(({ row }) => hasRisk(row));
      this.more.hidden = this.order.length >= this.total;
      this.near.unobserve(this.more); // or it would not be told that it is still near
      this.near.observe(this.more);
      this.nothing(found);
      this.facets(found.facets);
      this.app.listed();
    }

    said() { // what is asked for, and how much of it is here: on paper there are no filters
      const { query } = this, sort = SORTS.find(([key]) => key && key === query.get("sort"));
      const asked = FILTERS.filter(([key]) => query.get(key)).map(([key, name]) => `${name.toLowerCase()}: ${query.getAll(key).map((value) => valueName(key, value)).join(", ")}`);
      return [query.get("search") && `search: ${query.get("search")}`, ...asked, sort && `sorted by ${sort[1]}, ${this.falling() ? "falling" : "rising"}`,
        this.order.length < this.total && `here the first ${this.order.length.toLocaleString("en")}`].filter(Boolean).join("  ·  ");
    }

    trouble(error) {
      this.failed = true;
      this.refused.hidden = false;
      const again = error.status === 0 ? " Trying again…" : "";
      this.refused.textContent = `${error.message}${again}`;
    }

    nothing(found) {
      this.empty.hidden = found.total > 0;
      this.element.classList.toggle("bare", found.all === 0);
      if (found.total > 0) return;
      if (found.all > 0) return void dom.put(this.empty, make("p", {}, "No run is like that. "), button({ onclick: () => this.app.ask(new URLSearchParams()) }, "Show all"));
      if (this.app.source.embedded || !found.live) return void dom.put(this.empty, make("p", {}, "There are no runs."));
      dom.put(this.empty, make("h2", {}, "No runs yet"), make("p", {}, "Send a question with an image to this server, from any client of OpenAI's API. It appears here while the model thinks."), make("pre", {}, make("code", {}, example())));
    }

    update(row, create) { // → the row's element, made where there is none
      const text = JSON.stringify(row), old = this.rows.get(row.id);
      if (!old && !create) return null;
      if (old && old.text === text) return old.element;
      const link = old ? old.element.firstChild : make("a", { href: this.app.address(row.id), "data-id": row.id });
      const element = old ? old.element : make("li", {}, link);
      dom.put(link, entry(row));
      this.rows.set(row.id, { row, text, element });
      return element;
    }

    fill() { // the controls, after the query
      if (document.activeElement !== this.search) this.search.value = this.query.get("search") || "";
      this.sort.value = this.query.get("sort") || "";
      this.turn.hidden = !this.query.get("sort");
      this.turn.textContent = this.falling() ? "↓ falling" : "↑ rising";
    }

    facets(facets) {
      const text = JSON.stringify([facets, String(this.query)]);
      if (text === this.facetText) return;
      this.facetText = text;
      const held = document.activeElement && this.filters.contains(document.activeElement) ? document.activeElement.dataset.facet : null;
      const boxes = FILTERS.map(([key, name]) => this.facet(key, name, facets[key] || {}));
      const some = KEYS.some((key) => key !== "sort" && key !== "order" && this.query.get(key));
      dom.put(this.filters, boxes, some && button({ onclick: () => this.app.ask(new URLSearchParams()) }, "Clear all"));
      if (held) { const same = [...this.filters.querySelectorAll("input")].find((one) => one.dataset.facet === held); if (same) same.focus(); }
    }

    facet(key, name, counts) {
      const chosen = this.query.getAll(key), values = Object.entries(counts).filter(([value, n]) => n || chosen.includes(value));
      if (!chosen.length && values.length < 2) return null; // it could not divide them
      const order = key === "outcome" ? Object.keys(words.OUTCOMES) : [], rank = (value) => (order.includes(value) ? order.indexOf(value) : order.length);
      values.sort(([a, n], [b, m]) => (order.length ? rank(a) - rank(b) : m - n));
      return make("fieldset", {}, make("legend", {}, name), values.map(([value, n]) => this.box(key, value, n, chosen)));
    }

    box(key, value, n, chosen) {
      const input = make("input", { type: "checkbox", checked: chosen.includes(value), "data-facet": `${key} ${value}` });
      input.addEventListener("change", () => this.put(key, input.checked ? [...chosen, value] : chosen.filter((one) => one !== value)));
      return make("label", {}, input, make("span", { class: key === "outcome" ? `dot ${value}` : "" }, valueName(key, value)), make("span", { class: "n muted" }, n.toLocaleString("en")));
    }

    beside(id, by) { // the id of the run before or after one, or null
      const at = this.order.indexOf(id);
      if (at >= 0 && at + by >= this.order.length - 5) this.next();
      return at < 0 ? null : this.order[at + by] || null;
    }

    focus(id) {
      const row = this.rows.get(id);
      if (row && !this.element.hidden) row.element.firstChild.focus({ preventScroll: true });
    }
  }

  const hasRisk = (row) => row.risk !== null && row.risk !== undefined;
  const valueName = (key, value) => (key === "alarmed" ? (value === "yes" ? "alarmed" : "no alarm") : words.facet(key, value));

  function rowsByKeys(search, rows) { // from what is searched to the first row, and from row to row
    search.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" || event.altKey || event.ctrlKey || event.metaKey || !rows.firstChild) return;
      event.preventDefault();
      rows.firstChild.firstChild.focus();
    });
    rows.addEventListener("keydown", (event) => {
      const by = { ArrowDown: "nextSibling", ArrowUp: "previousSibling" }[event.key], item = event.target.closest("li");
      if (!by || !item || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      (item[by] ? item[by].firstChild : by === "previousSibling" ? search : event.target).focus();
    });
  }

  function entry(row) { // what the list says of a run
    const alarmed = row.alarm !== null && row.alarm !== undefined;
    const answer = [row.answer && `→ ${row.answer}`, row.target && row.target !== row.answer && `expected ${row.target}`].filter(Boolean).join("   ");
    return [
      make("span", { class: "what" }, make("span", { class: "asks" }, row.question || row.id), make("span", { class: "sub muted" }, [!row.began && row.question && row.id, answer, row.task, row.began && words.clock(row.began)].filter(Boolean).join("  ·  "))),
      make("span", { class: "how" }, head.outcomeTag(row.outcome), row.label && make("span", { class: "tag" }, "by hand"), head.stateTag(row.state)),
      make("span", { class: "steps muted" }, words.count(row.n_steps, "step")),
      make("span", { class: "risk" }, hasRisk(row) && [make("span", { class: "unseen" }, "largest risk "), charts.gauge(row.risk, null, alarmed), make("b", {}, words.level(row.risk))]),
      make("span", { class: "mark" }, alarmed && make("span", { class: "tag alarm", title: `Alarm at step ${row.alarm + 1}` }, "▲ alarm")),
    ];
  }

  function example() {
    return [
      `curl -N ${location.origin}/v1/chat/completions -H 'Content-Type: application/json' -d @- <<EOF`,
      `{"stream": true, "messages": [{"role": "user", "content": [`,
      `  {"type": "image_url", "image_url": {"url": "data:image/png;base64,$(base64 -w0 IMAGE.png)"}},`,
      `  {"type": "text", "text": "which digit is at row 2, col 3?"}]}]}`,
      "EOF",
    ].join("\n");
  }

  return { List, KEYS, entry, rowsByKeys };
})();
