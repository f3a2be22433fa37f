"use strict";
// Above a run: what was asked and answered, whether it alarmed and what was done, and its label.
const head = (() => {
  const { make, button } = dom;
  const FAILURES = ["hallucination", "reasoning_failure", "failure"];

  function outcomeTag(value) {
    return value && make("span", { class: `tag outcome ${value}` }, make("i", { "aria-hidden": "true" }), words.outcome(value));
  }

  function stateTag(state) {
    return state && state !== "saved" && make("span", { class: `tag state ${state}` }, make("i", { "aria-hidden": "true" }), words.state(state));
  }

  // ---- the verdict -----------------------------------------------------------------------------------------------
  function hindsight(run, alarmed) { // what the outcome says of the alarm, where it is known
    const { outcome } = run.head;
    if (run.watches === "success" || run.attempts.length > 1) return "";
    if (FAILURES.includes(outcome)) return alarmed ? `The run did go wrong: ${words.outcome(outcome)}.` : `The run went wrong all the same (${words.outcome(outcome)}): a miss.`;
    if (outcome === "success") return alarmed ? "The answer is right all the same: a false alarm." : "The answer is right.";
    return "";
  }

  function because(run, i) {
    const { risk, reason } = run.steps[i], name = words.risk(run.watches);
    if (risk === null || risk === undefined) return reason ? `${words.capital(reason)}.` : "";
    const [said, over] = run.threshold === null ? [words.level(risk)] : words.apart(risk, run.threshold);
    const limit = over ? `, above the threshold of ${over}` : "";
    const promise = words.capital((reason || "").split("; ").slice(1).join("; "));
    return `${words.capital(name)} ${said}${limit}.${promise && ` ${promise}.`}`;
  }

  function spoken(run, i) { // the alarm of one step, whole
    const { decision } = run.steps[i], action = decision ? decision.action : run.alarms.length === 1 ? run.head.decision : null;
    const good = run.watches === "success";
    return {
      kind: good ? "good" : "alarm", step: i,
      title: good ? `Enough after ${run.name(i)}` : `Alarm after ${run.name(i)}`,
      texts: [because(run, i), action ? `What was done: ${words.done(action)}.` : run.head.source === "live" && run.attempts.length === 1 && "It was flagged, and the run went on."],
    };
  }

  function enough(run, i) {
    return { kind: "good", step: i, title: `Enough after ${run.name(i)}`, texts: [`${words.capital(words.done("enough"))}.`, run.steps[i].decision.reason && `${words.capital(run.steps[i].decision.reason)}.`] };
  }

  function calm(run) {
    const most = run.largest();
    if (most === null) return { kind: "none", title: run.live ? "No risk yet" : "No monitor watched this run", texts: [run.live ? "It is told with the first step." : "Its steps have no risk."] };
    const [said, over] = run.threshold === null ? [words.level(most)] : words.apart(most, run.threshold);
    const limit = over ? `the threshold is ${over}` : "no threshold above which it would alarm is known";
    const title = run.watches === "success" ? "Never sure enough of success" : "No alarm";
    return { kind: "calm", title: run.live ? `${title} so far` : title, texts: [`The largest ${words.risk(run.watches)} is ${said}, ${limit}.`, !run.live && hindsight(run, false)] };
  }

  function verdicts(run) {
    const out = run.alarms.map((i) => spoken(run, i));
    run.steps.forEach((step, i) => { if (step.decision && step.decision.action === "enough" && !step.alarm) out.push(enough(run, i)); });
    if (!out.length) return [calm(run)];
    const last = out.at(-1);
    if (!run.live) last.texts.push(hindsight(run, true));
    const after = run.attempts.filter((attempt) => attempt > (run.steps[last.step].attempt || 0));
    if (after.length && !run.live) last.texts.push(`Attempt ${after.at(-1) + 1} raised no alarm.`);
    return out;
  }

  // ---- the element -----------------------------------------------------------------------------------------------
  class Head {
    // on: {go(step), label(value), compare(), close()}
    constructor(on) {
      this.on = on;
      this.eyebrow = make("p", { class: "eyebrow" });
      this.question = make("h1", { class: "question", tabindex: -1 });
      this.answer = make("p", { class: "answered" });
      this.tags = make("p", { class: "tags" });
      this.tools = make("div", { class: "tools" });
      this.trouble = make("div", { class: "troubles" });
      this.verdict = make("div", { class: "verdicts" });
      this.labels = make("div", { class: "labels", role: "group", "aria-label": "Label by hand", hidden: true });
      this.refused = make("p", { class: "refused", role: "alert" });
      this.labelButtons = words.LABELS.map(({ key, value, name }) => button({ "aria-keyshortcuts": key, title: `Key ${key}`, onclick: () => this.on.label(value) }, name));
      this.labels.append(make("span", { class: "muted" }, "Label"), ...this.labelButtons);
      this.compareButton = button({ title: "Key c", onclick: () => this.on.compare() }, "Compare…");
      this.closeButton = button({ hidden: true, "aria-label": "Close this run", onclick: () => this.on.close() }, "✕ Close");
      this.tools.append(this.labels, this.compareButton, this.closeButton);
      this.element = make("header", { class: "asked" },
        make("div", { class: "words" }, this.eyebrow, this.question, this.answer, this.tags), this.tools, this.refused);
    }

    set(run, { labels, paired, same }) {
      const { head: row } = run;
      const about = [row.task, row.model, row.began && words.clock(row.began), row.id].filter(Boolean);
      this.eyebrow.textContent = about.join("  ·  ");
      this.question.textContent = row.question || "No question is known.";
      const answer = row.answer || run.steps.filter((step) => step.kind === "answer").map((step) => step.text).join(" ");
      dom.put(this.answer, make("span", { class: "muted" }, answer ? "Answer " : run.live ? "No answer yet" : "No answer"), answer && make("b", {}, answer),
        row.target && [make("span", { class: "muted" }, "  expected "), make("b", {}, row.target)]);
      const seen = run.seen === null ? "" : run.seen ? "seen by the detectors: its risk flatters" : "held out from the detectors";
      dom.put(this.tags, outcomeTag(row.outcome), stateTag(row.state), row.label && make("span", { class: "tag" }, "labelled by hand"),
        seen && make("span", { class: "tag" }, seen), same && make("span", { class: "tag" }, same));
      this.labels.hidden = !labels;
      this.labelButtons.forEach((one, i) => one.setAttribute("aria-pressed", String((row.label || null) === words.LABELS[i].value)));
      this.compareButton.hidden = paired;
      this.closeButton.hidden = !paired;
      this.tell(run);
    }

    tell(run) {
      const troubles = [run.unexplained && `From here on without effects and risk: ${run.unexplained}`, ...this.ends(run), ...run.notes];
      dom.put(this.trouble, troubles.filter(Boolean).map((text) => make("p", { class: "missing" }, text)));
      const found = verdicts(run), text = JSON.stringify(found);
      if (text === this.told && this.run === run) return; // what is focused stays
      Object.assign(this, { told: text, run });
      dom.put(this.verdict, found.map((one) => this.banner(run, one)));
    }

    ends(run) {
      const { state } = run.head, why = words.sentence(words.why(run.ending));
      return [[state === "failed" && "The run failed.", why].filter(Boolean).join(" ")];
    }

    banner(run, { kind, title, texts, step }) {
      const sign = { alarm: "▲", good: "✓", calm: "", none: "" }[kind];
      return make("div", { class: `verdict ${kind}` },
        sign && make("span", { class: "sign", "aria-hidden": "true" }, sign),
        make("p", {}, make("strong", {}, title), " ", texts.filter(Boolean).join(" ")),
        step !== undefined && button({ onclick: () => this.on.go(step) }, `Go to ${run.name(step)}`));
    }
  }

  return { Head, outcomeTag, stateTag, verdicts };
})();
