"use strict";
// Charts: risk and concentration by step, the effects of a step with their intervals, and a gauge. SVG in CSS colours.
const charts = (() => {
  const { svg, make } = dom;
  const MOST = 8, DOTS = 400, PAD = { left: 34, right: 14, top: 16, bottom: 20 };
  const WEAK = ` (of effects under ${model.GROUNDED} nats)`;
  const clamp = (value) => Math.max(0, Math.min(1, value));
  const known = (value) => value !== null && value !== undefined;

  function domain(values, threshold) { // 0 to 1, unless they are scores of another kind
    const all = values.filter(known).concat(known(threshold) ? [threshold] : []);
    if (all.every((one) => one >= 0 && one <= 1)) return [0, 1];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    return [low, high > low ? high : low + 1];
  }

  // ---- by step ---------------------------------------------------------------------------------------------------
  class BySteps {
    constructor(key, name, height, pick) {
      Object.assign(this, { key, name, height, pick, run: null, current: -1 });
      this.element = make("div", { class: `bystep ${key}` });
      this.element.addEventListener("click", (event) => this.click(event));
      new ResizeObserver(() => this.wide !== this.element.clientWidth && this.draw()).observe(this.element);
    }

    set(run) { this.run = run; this.draw(); }

    show(current) {
      this.current = current;
      const cursor = this.element.querySelector(".cursor");
      if (cursor) this.place(cursor);
    }

    x(i) { return PAD.left + ((i + 0.5) / this.run.steps.length) * (this.wide - PAD.left - PAD.right); }

    y(value) { return PAD.top + (1 - (value - this.low) / (this.high - this.low)) * (this.height - PAD.top - PAD.bottom); }

    place(cursor) {
      const at = this.x(Math.max(0, this.current));
      dom.set(cursor, "x1", at);
      dom.set(cursor, "x2", at);
    }

    click(event) {
      if (!this.run || !this.run.steps.length) return;
      const x = event.clientX - this.element.getBoundingClientRect().left;
      const share = (x - PAD.left) / (this.wide - PAD.left - PAD.right);
      this.pick(Math.max(0, Math.min(this.run.steps.length - 1, Math.floor(share * this.run.steps.length))));
    }

    draw() {
      const run = this.run;
      this.wide = this.element.clientWidth || 360;
      if (!run || !run.steps.length) return dom.put(this.element);
      const values = run.steps.map((step) => step[this.key]);
      const threshold = this.key === "risk" ? run.threshold : null;
      [this.low, this.high] = domain(values, threshold);
      const cursor = svg("line", { class: "cursor", y1: PAD.top - 4, y2: this.height - PAD.bottom });
      this.place(cursor);
      dom.put(this.element, svg("svg", { viewBox: `0 0 ${this.wide} ${this.height}`, height: this.height, role: "img", "aria-label": this.said(values, threshold) },
        this.grid(), this.numbers(), this.attempts(), cursor, this.lines(values), this.dots(values), this.limit(threshold), this.alarms(values)));
    }

    said(values, threshold) {
      const list = values.map((value, i) => (known(value) ? `${this.run.name(i)} ${words.level(value)}${this.weak(i) ? WEAK : ""}` : "")).filter(Boolean);
      const alarms = this.key === "risk" ? this.run.alarms.map((i) => `alarm at ${this.run.name(i)}`) : [];
      return `${words.capital(this.name)}: ${[...list, known(threshold) && `threshold ${words.level(threshold)}`, ...alarms].filter(Boolean).join(", ") || "not known"}.`;
    }

    grid() {
      return [this.low, (this.low + this.high) / 2, this.high].map((value) => svg("g", { class: "grid" },
        svg("line", { x1: PAD.left, x2: this.wide - PAD.right, y1: this.y(value), y2: this.y(value) }),
        svg("text", { x: PAD.left - 6, y: this.y(value) + 4, "text-anchor": "end" }, this.high - this.low === 1 ? String(value) : words.level(value))));
    }

    numbers() { // below, as many as have room
      const room = (this.wide - PAD.left - PAD.right) / this.run.steps.length, every = Math.max(1, Math.ceil(22 / room));
      return this.run.steps.map((step, i) => {
        const number = this.run.number(i);
        if (number && (number - 1) % every) return null;
        if (!number && room < 14) return null;
        return svg("text", { class: "number", x: this.x(i), y: this.height - 5, "text-anchor": "middle" }, number ? String(number) : "A");
      });
    }

    attempts() { // a line where the question was asked again
      return this.run.steps.map((step, i) => {
        if (!i || (step.attempt || 0) === (this.run.steps[i - 1].attempt || 0)) return null;
        const at = (this.x(i) + this.x(i - 1)) / 2;
        return svg("line", { class: "again", x1: at, x2: at, y1: PAD.top - 8, y2: this.height - PAD.bottom });
      });
    }

    lines(values) { // joined where neighbours of one attempt are known
      let d = "", joined = false;
      values.forEach((value, i) => {
        const same = i && (this.run.steps[i].attempt || 0) === (this.run.steps[i - 1].attempt || 0);
        if (known(value)) d += `${joined && same ? "L" : "M"}${this.x(i).toFixed(1)} ${this.y(value).toFixed(1)}`;
        joined = known(value);
      });
      return svg("path", { class: "line", d });
    }

    weak(i) { return this.key === "concentration" && !this.run.grounded(i); } // it is then of effects that are next to none

    dots(values) {
      const many = values.length > DOTS; // then they hide the line, and those above the threshold are dots alone
      return values.map((value, i) => {
        const over = this.key === "risk" && this.run.over(i), weak = this.weak(i);
        if (!known(value) || (many && !over)) return null;
        return svg("circle", {
          class: `dot${over ? " over" : ""}${weak ? " weak" : ""}`, cx: this.x(i), cy: this.y(value), r: this.run.steps.length > 60 ? 2 : 3.5,
        }, svg("title", {}, `${this.run.name(i)}: ${this.name} ${words.level(value)}${weak ? WEAK : ""}`));
      });
    }

    limit(threshold) {
      if (!known(threshold)) return null;
      const y = this.y(threshold), text = `${this.run.watches === "success" ? "enough" : "alarm"} above ${words.level(threshold)}`;
      const { left, below } = this.free(y, 6.5 * text.length + 8);
      return svg("g", { class: "limit" },
        svg("line", { x1: PAD.left, x2: this.wide - PAD.right, y1: y, y2: y }),
        svg("text", { x: left ? PAD.left + 4 : this.wide - PAD.right, y: below ? y + 13 : y - 5, "text-anchor": left ? null : "end" }, text));
    }

    free(y, width) { // where words of that width lie least on the line of risk: at which end, above or below the limit
      const { steps } = this.run, line = []; // [x, y] every few pixels
      steps.forEach((step, i) => {
        if (!known(step.risk)) return;
        const before = i && known(steps[i - 1].risk) && (steps[i - 1].attempt || 0) === (step.attempt || 0), n = before ? Math.ceil((this.x(i) - this.x(i - 1)) / 4) : 1;
        for (let k = 1; k <= n; k++) {
          const from = before ? steps[i - 1].risk : step.risk;
          line.push([this.x(i) - (before ? (1 - k / n) * (this.x(i) - this.x(i - 1)) : 0), this.y(from + (k / n) * (step.risk - from))]);
        }
      });
      const on = ({ left, below }) => line.filter(([x, at]) => (left ? x < PAD.left + width : x > this.wide - PAD.right - width) && (below ? at > y && at < y + 20 : at > y - 20 && at < y)).length;
      const fits = ({ below }) => (below ? y + 18 < this.height - PAD.bottom : y > PAD.top + 14);
      const places = [[false, false], [true, false], [false, true], [true, true]].map(([left, below]) => ({ left, below })).filter(fits);
      return places.reduce((best, one) => (on(one) < on(best) ? one : best), places[0] || { left: false, below: false });
    }

    alarms(values) { // a mark of its own shape above the dot
      if (this.key !== "risk") return null;
      return this.run.alarms.filter((i) => known(values[i])).map((i) => {
        const x = this.x(i), y = Math.max(9, this.y(values[i]) - 8);
        return svg("path", { class: this.run.watches === "success" ? "alarm good" : "alarm", d: `M${x} ${y - 8}l6 10h-12z` });
      });
    }
  }

  // ---- effects of a step -----------------------------------------------------------------------------------------
  function reach(rows) { // the ends of a common axis, zero included
    const ends = rows.flatMap(({ value, half }) => [value - (half || 0), value + (half || 0), 0]);
    return [Math.min(...ends), Math.max(...ends)];
  }

  function bar({ value, half }, [low, high]) {
    const at = (one) => `${(2 + 96 * clamp((one - low) / (high - low || 1))).toFixed(2)}%`;
    const size = `${((96 * Math.abs(value)) / (high - low || 1)).toFixed(2)}%`;
    const out = [svg("rect", { class: value < 0 ? "opposes" : "supports", x: at(Math.min(0, value)), y: 5, width: size, height: 12, fill: value < 0 ? "url(#hatch)" : null })];
    out.push(svg("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: 22 }));
    if (known(half)) for (const [kind, colour] of [["rim", 3.5], ["whisker", 1.5]]) {
      const [a, b] = [at(value - half), at(value + half)];
      out.push(svg("g", { class: kind, "stroke-width": colour },
        svg("line", { x1: a, x2: b, y1: 11, y2: 11 }), svg("line", { x1: a, x2: a, y1: 7, y2: 15 }), svg("line", { x1: b, x2: b, y1: 7, y2: 15 })));
    }
    return svg("svg", { class: "bar", height: 22, "aria-hidden": "true" }, out);
  }

  class Effects {
    // point(region or null): one is pointed at
    constructor(point) {
      this.point = point;
      this.list = make("ol", { class: "bars" });
      this.ends = make("p", { class: "ends muted" });
      this.empty = make("p", { class: "missing", hidden: true });
      this.element = make("div", {}, this.list, this.ends, this.empty);
      this.list.addEventListener("pointerleave", () => this.point(null));
      this.list.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) { // up and down within the list
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
      const all = [...this.list.querySelectorAll("button")], to = all[all.indexOf(document.activeElement) + by];
      event.preventDefault();
      event.stopPropagation();
      if (to) to.focus();
    }

    // most: {low, high} to draw within, or null for the step's own
    show(run, index, image, dark, common) {
      const rows = index < 0 ? [] : run.ranked(index).slice(0, MOST);
      this.empty.hidden = rows.length > 0;
      this.list.hidden = this.ends.hidden = !rows.length;
      if (!rows.length) return void (this.empty.textContent = index < 0 ? "There is no step yet." : "This step has no effects: nothing says which regions it rests on.");
      const ends = common || reach(rows);
      const held = document.activeElement && this.list.contains(document.activeElement) ? [...this.list.children].indexOf(document.activeElement.parentElement) : -1;
      dom.put(this.list, rows.map((row) => this.row(run, row, ends, image, dark)));
      this.ends.textContent = run.halves[index] ? "Whiskers: measured effects lie within them about nine times in ten." : "There are no intervals for these effects.";
      if (held >= 0 && this.list.children[held]) this.list.children[held].firstChild.focus();
    }

    row(run, one, ends, image, dark) {
      const name = run.regionName(one.region), value = words.effect(one.value, one.half);
      const thumb = make("canvas", { width: 60, height: 60, "aria-hidden": "true" });
      if (image && run.map && run.map.has(one.region)) picture.crop(thumb, image, run.map, one.region, dark);
      const button = dom.button({
        "data-region": one.region, "aria-label": `${words.capital(name)}: ${value}, ${one.value < 0 ? "speaks against the step" : "supports the step"}`,
        onpointerenter: () => this.point(one.region), onfocus: () => this.point(one.region), onblur: () => this.point(null),
      }, thumb, make("span", { class: "region" }, name.split(", ").reverse()[0], run.map && make("small", {}, ` ${one.region}`)), bar(one, ends),
      make("span", { class: "value" }, words.nats(one.value), known(one.half) && make("small", {}, ` ± ${words.size(one.half)}`)));
      return make("li", {}, button);
    }

    mark(region) {
      for (const button of this.list.querySelectorAll("button")) button.classList.toggle("pointed", Number(button.dataset.region) === region);
    }
  }

  const range = (run) => run.keep("range", () => ranged(run));

  function ranged(run) { // of all steps' effects with their intervals, so that no whisker is cut
    let low = 0, high = 0;
    run.effects.forEach((row, t) => row && row.forEach((value, k) => {
      const half = run.halves[t] ? run.halves[t][k] : 0;
      low = Math.min(low, value - half);
      high = Math.max(high, value + half);
    }));
    return low < high ? [low, high] : null;
  }

  // ---- a gauge ---------------------------------------------------------------------------------------------------
  function gauge(value, threshold, over, good) { // risk now, and the threshold, from 0 to 1 (or of scores, where they lie)
    const [low, high] = domain([value], threshold), at = (one) => `${(100 * clamp((one - low) / (high - low))).toFixed(2)}%`;
    return svg("svg", { class: `gauge${over ? " over" : ""}${good ? " good" : ""}`, height: 14, "aria-hidden": "true" },
      svg("rect", { class: "track", x: 0, y: 3, width: "100%", height: 8, rx: 4 }),
      known(value) && svg("rect", { class: "fill", x: 0, y: 3, width: at(value), height: 8, rx: 4 }),
      known(threshold) && svg("line", { class: "mark", x1: at(threshold), x2: at(threshold), y1: 0, y2: 14 }));
  }

  function hatch() { // the pattern that all charts of the page share
    return svg("svg", { class: "patterns", width: 0, height: 0, "aria-hidden": "true" },
      svg("defs", {}, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        svg("rect", { class: "ground", width: 6, height: 6 }), svg("rect", { class: "lines", width: 2.4, height: 6 }))));
  }

  return { BySteps, Effects, gauge, hatch, range };
})();
