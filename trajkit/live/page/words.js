"use strict";
// How numbers, outcomes, states and decisions are said.
const words = (() => {
  const OUTCOMES = {
    success: "success", hallucination: "hallucination", reasoning_failure: "reasoning failure", failure: "failure", unknown: "unknown",
  };
  const STATES = {
    waiting: "waiting", running: "running", ended: "ended", stopped: "stopped", failed: "failed", saved: "saved",
  };
  const LABELS = [
    { key: "1", value: "hallucination", name: "hallucination" },
    { key: "2", value: "reasoning_failure", name: "reasoning failure" },
    { key: "3", value: "success", name: "fine" },
    { key: "0", value: null, name: "none" },
  ];
  const DONE = {
    flag: "flagged, and left to go on",
    stop: "the run was stopped, without an answer",
    "answer now": "thinking was closed, and the model had to answer",
    "ask again": "the question was asked again",
    enough: "thinking was ended, as success is as good as certain",
  };
  const WHYS = { stop: "", length: "It ended at the limit of tokens." };

  const outcome = (value) => (value ? OUTCOMES[value] || value.replaceAll("_", " ") : "");
  const state = (value) => STATES[value] || value || "";
  const label = (value) => (LABELS.find((one) => one.value === value) || { name: value || "" }).name;
  const facet = (key, value) => (value === "" || value === "null" ? "none" : key === "outcome" ? outcome(value) : key === "label" ? label(value) : key === "state" ? state(value) : value);
  const done = (action) => (action ? DONE[action] || action : "");
  const why = (reason) => (reason in WHYS ? WHYS[reason] : reason || "");
  const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
  const level = (value, digits = 2) => (value === null || value === undefined ? "–" : value < 0 ? `−${(-value).toFixed(digits)}` : value.toFixed(digits));
  const apart = (...two) => { // a risk and its threshold, with as many digits as tell them apart
    let digits = 2;
    while (digits < 6 && two[0] !== two[1] && two[0].toFixed(digits) === two[1].toFixed(digits)) digits++;
    return two.map((value) => level(value, digits));
  };
  const size = (value) => (value >= 0.0995 ? value.toFixed(2) : value >= 0.0005 ? value.toPrecision(2) : "0");
  const nats = (value) => (size(Math.abs(value)) === "0" ? "0" : (value > 0 ? "+" : "−") + size(Math.abs(value)));
  const effect = (value, half) => (half === null || half === undefined ? `${nats(value)} nats` : `${nats(value)} ± ${size(half)} nats`);
  const percent = (share) => `${Math.round(100 * share)} %`;
  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1).trimEnd()}…` : text);
  const risk = (watches) => (watches === "success" ? "chance of success" : "risk of failure");
  const sentence = (text) => text && capital(text) + (/[.!?…]$/.test(text) ? "" : ".");
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const clock = (seconds) => new Date(1000 * seconds).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

  return { LABELS, OUTCOMES, outcome, state, label, facet, done, why, count, level, apart, size, nats, effect, percent, short, risk, sentence, capital, clock };
})();
