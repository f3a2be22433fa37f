"use strict";
// One run: a document, or what the events of a live one have told so far, in one shape.
const model = (() => {
  const GROUNDED = 0.5; // nats; a step whose largest effect is smaller hardly depends on the image
  const LEAST = 1; // nats at full strength, or noise would be at it in a run that hardly looks
  const solid = (text) => text.replace(/\s+/g, "").length;

  function full(effects) { // nats at full strength: the 99th percentile of |effects|, so that one outlier does not pale the rest
    const sizes = new Float32Array(effects.reduce((n, row) => n + (row ? row.length : 0), 0));
    let at = 0;
    for (const row of effects) if (row) for (const one of row) sizes[at++] = Math.abs(one);
    sizes.sort();
    return sizes[Math.floor(0.99 * (sizes.length - 1))] || sizes.at(-1) || 1;
  }

  class Run {
    constructor(head) {
      this.head = head;
      this.steps = [];
      this.effects = []; // one Float32Array of nats a step, or null
      this.halves = [];
      this.image = null;
      this.map = null;
      this.notes = [];
      this.reading = "";
      this.seen = null;
      this.scale = null;
      this.threshold = null;
      this.watches = null;
      this.kind = null;
      this.unexplained = "";
      this.ending = "";
      this.live = false; // whether more may come
      this.written = new Map(); // attempt → {thinking, answer}: what the model wrote, finished sentences or not
      this.kept = {}; // what follows from the steps, until there is another one
    }

    keep(name, made) { return name in this.kept ? this.kept[name] : (this.kept[name] = made()); }

    static of(document) {
      const run = new Run(document);
      run.describe(document);
      run.steps = document.steps;
      const [steps, k] = [run.steps.length, document.n_regions];
      run.effects = document.effects ? regions.nats(document.effects, steps, k) : run.steps.map(() => null);
      run.halves = document.half_widths ? regions.nats(document.half_widths, steps, k) : run.steps.map(() => null);
      run.scale = document.scale;
      return run;
    }

    describe(about) { // what is known of a run before its first step
      this.image = about.image;
      this.map = about.map && new regions.Regions(about.map);
      this.kind = about.effects_kind;
      this.threshold = about.threshold;
      this.watches = about.watches;
      this.notes = about.notes || [];
      this.reading = about.reading || "";
      this.seen = about.seen === undefined ? null : about.seen;
    }

    take(event) { // one event of a live run
      if (event.event === "step" || !this.written.has(event.attempt)) this.kept = {};
      if (event.event === "start") {
        const { event: _, image, map, ...head } = event;
        this.head = { ...this.head, ...head };
        this.describe(event);
        this.live = true;
      } else if (event.event === "text") {
        this.writtenIn(event.attempt)[event.kind].text += event.text;
      } else if (event.event === "step") {
        const { event: _, effects, half_width: half, note, ...step } = event;
        this.steps.push(step);
        if (note && !this.notes.includes(note)) this.notes = [...this.notes, note];
        this.effects.push(effects ? Float32Array.from(effects) : null);
        this.halves.push(half ? Float32Array.from(half) : null);
        this.head.n_steps = this.steps.length;
        if (step.decision) this.head.decision = step.decision.action;
        this.scale = null;
        this.told(step);
      } else if (event.event === "unexplained") {
        this.unexplained = event.message;
      } else if (event.event === "end") {
        this.live = false;
        this.head.state = event.state;
        this.head.answer = event.answer || this.head.answer;
        this.head.n_tokens = event.n_tokens ?? this.head.n_tokens;
        this.ending = event.reason;
      }
    }

    get full() { return Math.max(LEAST, this.scale || (this.scale = full(this.effects))); }

    get attempts() { // their numbers, from 0, in order
      return this.keep("attempts", () => [...new Set([...this.steps.map((step) => step.attempt || 0), ...this.written.keys()])].sort((a, b) => a - b));
    }

    get attempt() { return this.attempts.at(-1) || 0; }

    pending(kind) { // what the current attempt wrote after its last finished step of this kind
      const written = this.written.get(this.attempt);
      if (!written) return "";
      const part = written[kind];
      while (part.at < part.text.length && part.told > 0) part.told -= solid(part.text[part.at++]);
      return part.text.slice(part.at).trim();
    }

    told({ attempt, kind, text }) { // a step, which is written no more
      const part = this.writtenIn(attempt || 0)[kind];
      if (part) part.told += solid(text);
    }

    writtenIn(attempt) {
      const none = () => ({ text: "", at: 0, told: 0 }); // at: where the steps end. told: characters of theirs that are not passed yet
      if (!this.written.has(attempt)) this.written.set(attempt, { thinking: none(), answer: none() });
      return this.written.get(attempt);
    }

    number(index) { // of a thinking step within its attempt, from 1; 0 for the answer
      const { kind, index: at } = this.steps[index];
      return kind === "thinking" ? at + 1 : 0;
    }

    name(index) { // "step 3", or "the answer"; with its attempt where there are several
      const number = this.number(index), attempt = this.steps[index].attempt || 0;
      const which = number ? `step ${number}` : "the answer";
      return this.attempts.length > 1 ? `attempt ${attempt + 1}, ${which}` : which;
    }

    get alarms() { // positions of the steps that raised one
      return this.keep("alarms", () => this.steps.flatMap((step, i) => (step.alarm ? [i] : [])));
    }

    get hasRisk() { return this.steps.some((step) => step.risk !== null && step.risk !== undefined); }

    over(index) { // whether its risk is above the threshold
      const risk = this.steps[index].risk;
      return risk !== null && risk !== undefined && this.threshold !== null && risk > this.threshold;
    }

    largest() { // risk so far, or null
      const risks = this.steps.map((step) => step.risk).filter((risk) => risk !== null && risk !== undefined);
      return risks.length ? Math.max(...risks) : null;
    }

    ranked(index) { // [{region, value, half}], the strongest first
      const values = this.effects[index], halves = this.halves[index];
      if (!values) return [];
      return Array.from(values, (value, region) => ({ region, value, half: halves ? halves[region] : null }))
        .sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    }

    first() { // the step to begin with: the alarm, else the first that rests on the image, else the first
      if (this.alarms.length) return this.alarms[0];
      return Math.max(0, this.steps.findIndex((_, i) => this.grounded(i)));
    }

    grounded(index) { // whether some effect is large enough to say that the step depends on the image
      const values = this.effects[index];
      return Boolean(values) && values.some((value) => Math.abs(value) >= GROUNDED);
    }

    rests(index) { // in words: the regions that support a step, and those against it, by effects whose interval leaves out 0
      const all = this.ranked(index), most = all.length ? Math.abs(all[0].value) : 0;
      if (most < GROUNDED) return `hardly depends on the image: no effect reaches ${GROUNDED} nats`;
      const strong = all.filter((one) => Math.abs(one.value) >= Math.max(GROUNDED / 2, most / 5));
      const some = strong.filter((one) => one.half === null || Math.abs(one.value) > one.half);
      const said = (one) => `${this.regionName(one.region)} (${words.effect(one.value, one.half)})`;
      if (!some.length) return `may rest on no region: 0 is within the interval of ${strong.slice(0, 3).map(said).join(", ")}`;
      const support = some.filter((one) => one.value > 0).slice(0, 3).map(said), against = some.filter((one) => one.value < 0).slice(0, 2).map(said);
      return [support.length && `rests on ${support.join(", ")}`, against.length && `has against it ${against.join(", ")}`].filter(Boolean).join("; ");
    }

    regionName(region) {
      const place = this.map ? this.map.place(region) : "";
      return place ? `region ${region}, ${place}` : `region ${region}`;
    }
  }

  return { Run, GROUNDED };
})();
