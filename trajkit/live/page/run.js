"use strict";
// One run on the page, and everything that follows from a run and a step of it.
const run = (() => {
  const { make, button } = dom;
  const PLAY = 1100; // milliseconds a step

  function panel(kind, title, about, ...children) {
    return make("section", { class: `panel ${kind}` }, make("h2", {}, title, about && make("span", { class: "muted" }, about)), ...children);
  }

  class Pane {
    // app: {source, settings, labels(), moved(pane), changed(pane), compare(), close(pane), active(pane)}
    constructor(app) {
      Object.assign(this, { app, run: null, id: "", step: -1, region: null, picture: null, following: false, common: null, drawn: -1 });
      this.head = new head.Head({ go: (i) => this.pick(i), label: (value) => this.label(value), compare: () => app.compare(), close: () => app.close(this) });
      this.look = new look.Look(app.settings, () => app.changed(this), (region) => this.point(region));
      this.list = new thinking.List((i) => this.pick(i));
      this.effects = new charts.Effects((region) => this.point(region));
      this.risk = new charts.BySteps("risk", "risk", 150, (i) => this.pick(i));
      this.level = new charts.BySteps("concentration", "concentration", 120, (i) => this.pick(i));
      this.path = new path.View((i) => this.pick(this.thoughts[i]), (i) => words.short(`${this.run.number(this.thoughts[i])}. ${this.run.steps[this.thoughts[i]].text}`, 70));
      this.build();
    }

    build() {
      this.connection = make("p", { class: "connection", role: "status", hidden: true });
      this.stepName = make("span", { class: "where" });
      this.stepRisk = make("span", { class: "chip" });
      this.said = make("blockquote", { class: "now" });
      this.digest = make("p", { class: "digest" });
      this.previous = button({ "aria-label": "Previous step", title: "Key ↑", onclick: () => this.turn(-1) }, "‹");
      this.next = button({ "aria-label": "Next step", title: "Key ↓", onclick: () => this.turn(1) }, "›");
      this.playing = button({ title: "Key p", "aria-label": "Play", "aria-pressed": "false", onclick: () => this.play() }, "▶");
      this.follow = button({ class: "primary", hidden: true, title: "Key f", onclick: () => this.goOn() }, "● Follow the newest");
      const walk = make("div", { class: "walk" }, this.stepName, this.stepRisk, make("span", { class: "buttons" }, this.follow, this.previous, this.next, this.playing));
      this.riskPanel = panel("risks", "Risk", "by step", this.risk.element);
      this.levelPanel = panel("levels", "Concentration", `0: evenly spread, 1: one region; hollow: no effect reaches ${model.GROUNDED} nats`, this.level.element);
      this.pathNote = make("p", { class: "caveat" });
      this.pathPanel = panel("trajectory", "Trajectory", "near points rest on the same regions", this.path.element, this.pathNote);
      this.reading = make("p", { class: "caveat" });
      this.facts = make("p", { class: "caveat" });
      this.panels = make("div", { class: "panels" },
        make("div", { class: "left" },
          make("section", { class: "panel seen" }, walk, this.said, this.digest, this.look.element),
          this.effectsPanel = panel("effects", "Effects of this step", "nats", this.effects.element)),
        make("div", { class: "middle" }, panel("told", "Thinking", "", this.columns = make("p", { class: "columns muted", "aria-hidden": "true" }), this.list.element)),
        make("div", { class: "right" }, this.riskPanel, this.levelPanel, this.pathPanel),
        make("div", { class: "foot" }, this.reading, this.facts));
      this.missing = make("div", { class: "empty", hidden: true });
      this.body = make("div", {}, this.head.element, this.connection, this.head.verdict, this.head.trouble, this.panels);
      this.element = make("article", { class: "pane" }, this.missing, this.body);
      for (const name of ["pointerdown", "focusin"]) this.element.addEventListener(name, () => this.app.active(this));
    }

    // ---- opening -------------------------------------------------------------------------------------------------
    async open(id, step) { // step: position, or null for where to begin
      this.close();
      this.id = id;
      this.element.setAttribute("aria-busy", "true");
      this.patience = setTimeout(() => this.wait("Loading…"), 300); // until then the run before stays in sight
      let found;
      try {
        found = await this.app.source.run(id);
      } catch (error) {
        if (this.id !== id) return;
        this.wait(error.message);
        this.element.setAttribute("aria-busy", "false");
        return;
      }
      if (this.id !== id) return;
      clearTimeout(this.patience);
      if (found.events) this.listen(found, step);
      else this.begin(model.Run.of(found), step);
    }

    close() {
      this.stop();
      clearTimeout(this.patience);
      if (this.events) this.events.close();
      Object.assign(this, { id: "", run: null, step: -1, region: null, picture: null, events: null, following: false, drawn: -1, loading: null });
      this.path.clear();
      this.tell("");
    }

    wait(text) {
      clearTimeout(this.patience);
      this.missing.hidden = false;
      this.body.hidden = true;
      dom.put(this.missing, make("p", {}, text));
    }

    begin(found, step) {
      this.run = found;
      this.missing.hidden = true;
      this.body.hidden = false;
      this.step = step === null ? found.first() : step;
      this.refresh();
    }

    listen(row, step) { // to the events of a live run
      const { events: _, ...head } = row, over = !["waiting", "running"].includes(head.state);
      this.following = step === null && !over;
      this.wanted = step;
      this.begin(new model.Run(head), step === null ? -1 : step);
      this.run.live = !over;
      const announce = !over;
      this.events = this.app.source.follow(this.id, (event) => this.take(event, announce), (state) => this.connected(state));
      this.refresh();
    }

    take(event, announce) {
      this.run.take(event);
      if (event.event === "end") {
        this.tell("");
        if (this.step < 0) this.step = this.run.steps.length ? this.run.first() : -1;
        this.following = false;
        if (announce) dom.say(`The run has ended: ${words.state(event.state)}.`);
        this.app.moved(this);
      }
      if (event.event === "step" && event.alarm && announce) {
        const said = head.verdicts(this.run).at(-1);
        dom.say(`${said.title}. ${said.texts.filter(Boolean).join(" ")}`, true);
      }
      this.soon();
    }

    soon() { // at most once a frame, however many events come
      if (this.waiting) return;
      this.waiting = true;
      const draw = () => { this.waiting = false; if (this.run) this.refresh(); };
      if (document.hidden) setTimeout(draw, 250); else requestAnimationFrame(draw);
    }

    connected(state) {
      if (state === "open") this.tell("");
      else if (state === "lost") this.tell("Connection lost, trying again…");
      else {
        this.run.live = false;
        this.tell(`${state.message} What came until then is shown.`);
        this.refresh();
      }
    }

    tell(text) {
      this.connection.hidden = !text;
      this.connection.textContent = text;
    }

    // ---- showing -------------------------------------------------------------------------------------------------
    refresh() { // after the run has grown, or another was opened
      const { run } = this;
      this.load();
      if (this.following) this.step = run.steps.length - 1;
      this.thoughts = run.steps.flatMap((step, i) => (step.kind === "thinking" && run.effects[i] ? [i] : []));
      this.head.set(run, { labels: this.app.labels(), ...this.app.pairing(this) });
      const held = this.list.scroll.scrollTop + this.list.scroll.clientHeight >= this.list.scroll.scrollHeight - 40;
      this.list.set(run);
      if (this.drawn !== run.steps.length) {
        this.drawn = run.steps.length;
        this.drawFigures();
        this.app.grown(this);
      }
      this.show(Math.min(this.step, run.steps.length - 1));
      if (this.following && held) this.list.bottom();
      this.about();
    }

    load() {
      const { run } = this;
      if (!run.image && !run.live) this.element.setAttribute("aria-busy", "false");
      if (!run.image || this.loading === run.image) return;
      this.loading = run.image;
      picture.loaded(run.image).then((found) => {
        if (this.run !== run) return;
        this.picture = found;
        this.redraw();
      }, () => { run.notes = [...run.notes, "The image cannot be shown."]; }).finally(() => this.run === run && this.element.setAttribute("aria-busy", "false"));
    }

    drawFigures() {
      const { run } = this, rows = this.thoughts.map((i) => run.effects[i]);
      this.riskPanel.hidden = !run.hasRisk;
      this.levelPanel.hidden = !run.steps.some((step) => step.concentration !== null && step.concentration !== undefined);
      dom.put(this.riskPanel.firstChild, words.capital(words.risk(run.watches)), make("span", { class: "muted" }, "by step"));
      this.columns.textContent = run.hasRisk ? words.risk(run.watches) : "";
      this.risk.set(run);
      this.level.set(run);
      this.effectsPanel.hidden = !run.live && !run.effects.some(Boolean); // its notes say so
      this.pathPanel.hidden = !run.live && !rows.length;
      this.path.element.hidden = rows.length < 1;
      const alarms = this.thoughts.flatMap((i, at) => (run.steps[i].alarm ? [at] : []));
      this.path.set(rows, alarms, this.thoughts.map((i) => String(run.number(i))), this.thoughts.map((i) => run.steps[i].attempt || 0));
      const said = this.pathSaid(rows.length), how = rows.length < 3 ? "" : " Drag it, or turn it with arrow keys.";
      dom.put(this.pathNote, said, how && make("span", { class: "on-screen" }, how));
      this.path.canvas.setAttribute("aria-label", `The path in three dimensions. ${said}${how}`);
    }

    pathSaid(n) {
      if (!n) return "The path begins with the first step.";
      if (n < 3) return `${words.count(n, "point")}: a path needs more steps.`;
      const shares = this.path.share.map((one, i) => `axis ${i + 1}: ${words.percent(one)}`).join(", ");
      return `Share of the variance of this run's effects: ${shares}. Principal components of its ${Math.min(32, this.run.effects[this.thoughts[0]].length)} strongest regions, fitted on all its steps: a picture, not what a monitor reads.${n < 5 ? ` Three axes hold any ${n} points whole.` : ""}`;
    }

    about() {
      const { run } = this, tokens = run.head.n_tokens;
      this.reading.textContent = run.reading;
      this.reading.hidden = !run.reading;
      const effects = run.kind && `${run.kind} effects`, k = run.effects.find(Boolean);
      this.facts.textContent = [k && words.count(k.length, "region"), effects, words.count(run.steps.length, "step"), tokens && words.count(tokens, "token"), run.head.group && `group ${run.head.group}`].filter(Boolean).join("  ·  ");
      this.element.setAttribute("aria-label", `Run: ${run.head.question || run.head.id}`);
    }

    shown() { return this.run ? Math.min(this.step, this.run.steps.length - 1) : -1; }

    show(index) { // the step that everything else follows
      const { run } = this, n = run.steps.length, step = index >= 0 ? run.steps[index] : null;
      this.stepName.textContent = step ? words.capital(run.name(index)) + (run.attempts.length > 1 ? "" : ` of ${n}`) : run.live ? "No step yet" : "No step";
      this.said.textContent = step ? step.text : run.pending("thinking") || "…";
      this.said.classList.toggle("dim", !step);
      this.riskOf(step, index);
      this.digest.textContent = step && run.effects[index] ? `${words.capital(run.rests(index))}.` : "";
      this.follow.hidden = !run.live || this.following;
      this.previous.disabled = index <= 0;
      this.next.disabled = index >= n - 1;
      this.playing.hidden = run.live;
      this.look.show(run, index, this.picture, this.region, this.common && this.common.full);
      const common = this.app.settings.scale === "run" ? (this.common && this.common.range) || charts.range(run) : null;
      this.effects.show(run, index, this.picture, look.dark(), common);
      this.effects.mark(this.region);
      this.list.show(index);
      this.risk.show(index);
      this.level.show(index);
      this.path.show(this.thoughts.indexOf(index));
    }

    riskOf(step, index) {
      const known = step && step.risk !== null && step.risk !== undefined, over = known && this.run.over(index), good = this.run.watches === "success";
      this.stepRisk.hidden = !known;
      if (known) dom.put(this.stepRisk, `${words.risk(this.run.watches)} `, make("b", {}, words.level(step.risk)), charts.gauge(step.risk, this.run.threshold, over, good));
      this.stepRisk.className = `chip${over ? (good ? " good" : " over") : ""}`;
    }

    point(region) { // a region, in the image and among the effects
      if (this.region === region) return;
      this.region = region;
      this.look.mark(region);
      this.effects.mark(region);
    }

    redraw() { if (this.run) this.show(this.shown()); }

    resized() { for (const one of [this.risk, this.level]) one.draw(); this.look.draw(); this.path.draw(); }

    // ---- choosing ------------------------------------------------------------------------------------------------
    pick(index) { // by somebody: the newest is no longer followed
      if (!this.run || !this.run.steps.length || index === undefined) return;
      this.stop();
      this.following = false;
      this.go(Math.max(0, Math.min(index, this.run.steps.length - 1)));
    }

    go(index) {
      this.step = index;
      this.region = null;
      this.show(index);
      this.app.moved(this);
    }

    turn(by) { this.pick(this.shown() + by); }

    goOn() {
      if (!this.run || !this.run.live) return;
      this.following = true;
      this.step = this.run.steps.length - 1;
      this.redraw();
      this.list.bottom();
      this.app.moved(this);
    }

    play() {
      if (this.timer) return this.stop();
      if (!this.run || this.run.live || !this.run.steps.length) return;
      const last = this.run.steps.length - 1;
      this.go(this.shown() >= last ? 0 : this.shown());
      this.timer = setInterval(() => (this.shown() >= last ? this.stop() : this.go(this.shown() + 1)), PLAY);
      this.playing.textContent = "❚❚";
      this.playing.setAttribute("aria-pressed", "true");
    }

    stop() {
      clearInterval(this.timer);
      this.timer = null;
      this.playing.textContent = "▶";
      this.playing.setAttribute("aria-pressed", "false");
    }

    async label(value) {
      if (!this.run || !this.app.labels()) return;
      const { run } = this;
      this.head.refused.textContent = "";
      try {
        const row = await this.app.source.label(run.head.id, value);
        Object.assign(run.head, { label: row.label, outcome: row.outcome });
        dom.say(`Labelled: ${words.label(value)}.`);
      } catch (error) {
        this.head.refused.textContent = `The label was not saved. ${error.message}`;
      }
      if (this.run === run) this.refresh();
      this.app.labelled();
    }
  }

  return { Pane };
})();
