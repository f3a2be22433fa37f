"use strict";
// What the model thought, sentence by sentence, each with its risk; and what it is writing now.
const thinking = (() => {
  const { make } = dom;
  const LEVELS = 4; // shades below the threshold

  function shade(run, step) { // how near to the threshold, from 0 to LEVELS − 1; LEVELS above it, null unknown
    if (step.risk === null || step.risk === undefined) return null;
    const limit = run.threshold ?? 1;
    if (run.threshold !== null && step.risk > limit) return LEVELS;
    return Math.max(0, Math.min(LEVELS - 1, Math.floor((LEVELS * step.risk) / (limit || 1))));
  }

  class List {
    constructor(pick) {
      Object.assign(this, { pick, rows: [], run: null, current: -1 });
      this.list = make("ol", { class: "sentences" });
      this.writing = make("div", { class: "writing", hidden: true });
      this.scroll = make("div", { class: "scrolled" }, this.list, this.writing);
      this.element = this.scroll;
      this.list.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      const at = this.rows.findIndex((row) => row.button === document.activeElement);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.rows.length - 1 }[event.key];
      if (at < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      const row = this.rows[Math.max(0, Math.min(this.rows.length - 1, to))];
      row.button.focus();
      this.pick(this.rows.indexOf(row));
    }

    set(run) { // another run, or the same with more steps
      if (this.run !== run) { Object.assign(this, { run, rows: [], current: -1 }); dom.put(this.list); }
      this.list.classList.toggle("with-risk", run.hasRisk);
      for (let i = this.rows.length; i < run.steps.length; i++) this.add(i);
      this.write();
    }

    add(i) {
      const { run } = this, step = run.steps[i], number = run.number(i), level = shade(run, step);
      const attempt = step.attempt || 0, before = i ? run.steps[i - 1].attempt || 0 : attempt;
      if (attempt !== before) this.list.append(make("li", { class: "again" }, `Asked again: attempt ${attempt + 1}`));
      const button = dom.button({ tabindex: i ? -1 : 0, "data-level": level === null ? null : String(level), onclick: () => this.pick(i) },
        make("i", { class: "strip", "aria-hidden": "true" }),
        make("span", { class: "number" }, number ? String(number) : ""),
        make("span", { class: "said" }, step.text, this.tags(step, number)),
        this.risk(i, level));
      this.rows.push({ button });
      this.list.append(make("li", {}, button));
    }

    tags(step, number) {
      const good = this.run.watches === "success";
      return [
        !number && make("span", { class: "tag" }, "answer"),
        step.wrong && make("span", { class: "tag wrong" }, "first wrong, by the labels"),
        step.alarm && make("span", { class: good ? "tag good" : "tag alarm" }, good ? "✓ enough" : "▲ alarm"),
        step.decision && step.decision.action === "enough" && make("span", { class: "tag good" }, "✓ enough"),
      ];
    }

    risk(i, level) {
      const { risk } = this.run.steps[i];
      if (level === null) return make("span", { class: "risk" });
      const meter = charts.gauge(risk, null, level === LEVELS, this.run.watches === "success");
      return make("span", { class: "risk", title: `${words.risk(this.run.watches)} ${risk.toFixed(3)}` }, meter,
        make("b", {}, words.level(risk)), make("span", { class: "unseen" }, level === LEVELS ? " above the threshold" : ""));
    }

    write() { // what is not a finished sentence yet
      const { run } = this, parts = run.live || run.written.size ? ["thinking", "answer"].map((kind) => [kind, run.pending(kind)]) : [];
      const some = parts.filter(([, text]) => text);
      this.writing.hidden = !some.length && !run.live;
      this.writing.classList.toggle("live", run.live);
      const waits = run.head.state === "waiting" ? "Waiting for a place…" : run.written.size ? "" : "Reading the image and the question…";
      dom.put(this.writing, some.length ? some.map(([kind, text]) => make("p", { class: kind }, text)) : run.live && make("p", {}, waits));
    }

    show(current) {
      for (const i of new Set([0, this.current, current])) this.mark(i, current); // others stay as they are
      if (current !== this.current) this.reveal(this.rows[current] && this.rows[current].button);
      this.current = current;
    }

    mark(i, current) {
      if (!this.rows[i]) return;
      const { button } = this.rows[i];
      button.tabIndex = i === Math.max(0, current) ? 0 : -1;
      dom.set(button, "aria-current", i === current && "true");
    }

    bottom() { this.scroll.scrollTop = this.scroll.scrollHeight; }

    reveal(button) { // within the list: the page stays where it is
      if (!button) return;
      const box = this.scroll.getBoundingClientRect(), own = button.getBoundingClientRect();
      if (own.top < box.top) this.scroll.scrollTop -= box.top - own.top + 30;
      else if (own.bottom > box.bottom) this.scroll.scrollTop += own.bottom - box.bottom + 30;
    }
  }

  return { List };
})();
