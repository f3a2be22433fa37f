"use strict";
// The image of a run with the effects of the chosen step: three ways to see it, a legend, a scale, a tip.
const look = (() => {
  const { make, svg } = dom;
  const MODES = [["spotlight", "Spotlight"], ["colours", "Colours"], ["image", "Image only"]];
  const SCALES = [["run", "Run scale"], ["step", "Step scale"]];
  const FLOOR = 0.25; // nats that an effect must have to be told from the rest on the scale of the run
  let made = 0;

  const dark = () => matchMedia("screen and (prefers-color-scheme: dark)").matches && !document.documentElement.classList.contains("paper");

  function choice(label, title, options, change) { // buttons side by side, one of them pressed
    const buttons = options.map(([value, text]) => dom.button({ value, onclick: () => change(value) }, text));
    const element = make("div", { class: "choice", role: "group", "aria-label": label, title }, buttons);
    return { element, set: (value) => buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.value === value))) };
  }

  function sample(kind) { // what a region of that kind looks like
    const box = { x: 3, y: 3, width: 18, height: 12 }, ground = svg("rect", { width: 24, height: 18, class: "pale" });
    const inside = {
      weak: [ground, svg("rect", { ...box, class: "lit" }), svg("rect", { ...box, class: "dark w1" })],
      strong: [ground, svg("rect", { ...box, class: "lit" }), svg("rect", { ...box, class: "dark w3" })],
      against: [svg("rect", { ...box, fill: "url(#hatch)" }), svg("rect", { ...box, class: "dark dashed" })],
      pale: [svg("rect", { ...box, class: "pale" })],
    }[kind];
    return svg("svg", { class: "sample", width: 24, height: 18, "aria-hidden": "true" }, inside);
  }

  function spotlightLegend(view) {
    const entry = (kinds, text) => make("span", { class: "entry" }, kinds.map(sample), text);
    return [
      entry(["weak", "strong"], `supports (widest from ${words.size(view.full)} nats)`),
      entry(["against"], "against"), entry(["pale"], `under ${words.size(picture.least(view))} nats`),
    ];
  }

  function colourLegend(full) {
    const id = `ramp-${(made += 1)}`, stop = (offset, name, opacity) => svg("stop", { offset, class: name, "stop-opacity": opacity });
    return [
      svg("svg", { class: "ramp", height: 12, "aria-hidden": "true" }, svg("defs", {}, svg("linearGradient", { id },
        stop(0, "against", 0.65), stop(0.5, "against", 0), stop(0.5, "support", 0), stop(1, "support", 0.65))),
      svg("rect", { width: "100%", height: 12, class: "paper" }), svg("rect", { width: "100%", height: 12, fill: `url(#${id})` })),
      make("span", { class: "ticks" }, make("span", {}, `≤ −${words.size(full)}: against`), make("span", {}, "0"), make("span", {}, `supports: ≥ +${words.size(full)} nats`)),
    ];
  }

  class Look {
    // settings: {mode, scale}, shared. change(): they changed. point(region or null)
    constructor(settings, change, point) {
      Object.assign(this, { settings, point, view: null, run: null, step: -1 });
      this.canvas = make("canvas", { width: 420, height: 420, role: "img", class: "picture" });
      this.tip = make("div", { class: "tip", hidden: true });
      this.none = make("p", { class: "muted blank", hidden: true });
      this.stage = make("div", { class: "stage" }, this.canvas, this.tip, this.none);
      this.legend = make("div", { class: "legend" });
      this.mode = choice("Show", "Key m", MODES, (value) => { settings.mode = value; change(); });
      this.scale = choice("Scale of colours and bars", "Scale: the strongest effects of the whole run, or of this step alone. Key s", SCALES, (value) => { settings.scale = value; change(); });
      this.controls = make("div", { class: "controls" }, this.mode.element, this.scale.element);
      this.element = make("div", { class: "looked" }, this.stage, this.legend, this.controls);
      this.canvas.addEventListener("pointermove", (event) => this.inspect(event));
      this.canvas.addEventListener("pointerdown", (event) => this.inspect(event));
      this.canvas.addEventListener("pointerleave", () => this.leave());
      new ResizeObserver(() => this.draw()).observe(this.canvas);
    }

    full(run, step, common) { // nats at full strength
      const values = run.effects[step];
      if (this.settings.scale === "step" && values) return values.reduce((most, one) => Math.max(most, Math.abs(one)), 0) || 1;
      return common || run.full;
    }

    show(run, step, image, region, common) {
      const values = step >= 0 ? run.effects[step] : null;
      const full = this.full(run, step, common);
      Object.assign(this, { run, step, view: { image, map: run.map, values, full, floor: this.settings.scale === "run" ? FLOOR : 0, mode: this.settings.mode, region } });
      this.mode.set(this.settings.mode);
      this.scale.set(this.settings.scale);
      const drawn = values && run.map;
      this.controls.hidden = !drawn;
      dom.put(this.legend, !drawn ? [] : this.settings.mode === "colours" || !image ? colourLegend(full) : this.settings.mode === "spotlight" ? spotlightLegend(this.view) : []);
      this.none.hidden = Boolean(image || run.map);
      this.none.textContent = run.live && !run.map ? "The image comes with the start of the run." : "There is no image, and no map of its regions.";
      this.canvas.setAttribute("aria-label", this.said(run, step, image));
      this.draw();
    }

    said(run, step, image) {
      const what = image ? "The image" : run.map ? "A map of the image's regions, without the image" : "No image";
      if (step < 0) return `${what}; there is no step yet.`;
      if (!run.effects[step]) return `${what}; this step has no effects. ${words.capital(run.name(step))}: ${run.steps[step].text}`;
      return `${what}. ${words.capital(run.name(step))}, “${run.steps[step].text}”, ${run.rests(step)}.`;
    }

    draw() { if (this.view) picture.draw(this.canvas, { ...this.view, dark: dark() }); }

    mark(region) {
      if (!this.view || this.view.region === region) return;
      this.view.region = region;
      if (region === null) this.tip.hidden = true;
      this.draw();
    }

    inspect(event) { // the region under the pointer, in nats
      const { run, step, canvas } = this;
      if (!run || !run.map) return;
      const box = canvas.getBoundingClientRect(), fit = Math.min(box.width / canvas.width, box.height / canvas.height); // object-fit: contain
      const x = (event.clientX - box.left - (box.width - canvas.width * fit) / 2) / (canvas.width * fit);
      const y = (event.clientY - box.top - (box.height - canvas.height * fit) / 2) / (canvas.height * fit);
      if (x < 0 || y < 0 || x >= 1 || y >= 1) return this.leave();
      const region = run.map.at(x, y), values = step >= 0 ? run.effects[step] : null, halves = step >= 0 ? run.halves[step] : null;
      this.point(region);
      const known = values && values[region] !== undefined;
      this.tip.textContent = `${run.regionName(region)}: ${known ? words.effect(values[region], halves && halves[region]) : "no effect"}`;
      this.tip.hidden = false;
      this.tip.style.left = `${Math.max(2, Math.min(event.clientX - box.left + 14, box.width - this.tip.offsetWidth - 4))}px`;
      this.tip.style.top = `${Math.max(2, event.clientY - box.top - 34)}px`;
    }

    leave() {
      this.tip.hidden = true;
      this.point(null);
    }
  }

  return { Look, MODES, dark };
})();
