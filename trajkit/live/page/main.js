"use strict";
// The page: its address says what is shown. #run=ID&step=3&with=ID2&step2=1, and what the list is asked for.
(() => {
  const { make, button } = dom;
  const source = sources.here();
  const settings = { mode: "spotlight", scale: "run" };
  let keepLabels = false, shown = null, scrolled = 0, current = null;

  // ---- the address -----------------------------------------------------------------------------------------------
  const ours = () => location.hash === "" || location.hash === "#" || location.hash.includes("="); // others are anchors of the page around
  const address = () => new URLSearchParams(location.hash.replace(/^#/, ""));
  const number = (query, key) => (/^[1-9]\d{0,8}$/.test(query.get(key) || "") ? Number(query.get(key)) - 1 : null);

  function asked(query) { // what the list is asked for
    const out = new URLSearchParams();
    for (const [key, value] of query) if (list.KEYS.includes(key) && value) out.append(key, value);
    return out;
  }

  function go(query, replace) {
    const hash = `#${query}`;
    if (hash === location.hash || (hash === "#" && !location.hash)) return;
    if (replace) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
  }

  function runAddress(id) {
    const query = asked(address());
    query.set("run", id);
    return `#${query}`;
  }

  function open(id) {
    go(runAddress(id).slice(1));
    render();
  }

  // ---- panes -----------------------------------------------------------------------------------------------------
  const app = {
    source, settings,
    labels: () => keepLabels,
    address: runAddress,
    open,
    active: (pane) => { current = pane; },
    ask: (query) => { go(query, true); render(); },
    changed: () => panes.forEach((pane) => pane.redraw()),
    labelled: () => runs.again(),
    listed: beside,
    compare: () => panes[0].run && chooser.open(panes[0].run),
    pairing: () => ({ paired: panes[1].id !== "", same: sameImage() }),
    grown() { share(); title(); },
    moved: keepAddress,
    close(pane) { // the other one stays
      const query = address(), other = panes[1 - panes.indexOf(pane)];
      query.delete("with");
      query.delete("step2");
      query.set("run", other.id);
      go(stepped(query, "step", other));
      render();
    },
  };
  const panes = [new run.Pane(app), new run.Pane(app)];
  const runs = new list.List(app);
  const chooser = new dialogs.Chooser(source, (id) => {
    const query = address();
    query.set("with", id);
    query.delete("step2");
    go(query);
    render();
  });
  const help = dialogs.help();

  function stepped(query, key, pane) {
    if (pane.following || pane.step < 0) query.delete(key);
    else query.set(key, pane.step + 1);
    return query;
  }

  function keepAddress() { // of the steps that are shown
    const query = address();
    panes.forEach((pane, i) => pane.id && stepped(query, i ? "step2" : "step", pane));
    go(query, true);
  }

  function sameImage() {
    const [one, other] = panes.map((pane) => pane.run);
    if (!one || !other || !panes[1].id) return "";
    const known = one.image && other.image, same = known ? one.image.url === other.image.url : one.head.group && one.head.group === other.head.group;
    return same ? "both of the same image" : known ? "of different images" : "";
  }

  function share() { // one scale for two runs side by side
    const both = panes.filter((pane) => pane.run && pane.id);
    const ranges = both.map((pane) => charts.range(pane.run)).filter(Boolean);
    const common = both.length < 2 ? null : {
      full: Math.max(...both.map((pane) => pane.run.full)),
      range: ranges.length ? [Math.min(...ranges.map((one) => one[0])), Math.max(...ranges.map((one) => one[1]))] : null,
    };
    for (const pane of panes) {
      pane.common = common;
      if (!pane.run || !pane.id || pane.drawn < 0) continue;
      pane.head.set(pane.run, { labels: keepLabels, ...app.pairing() });
      pane.redraw();
    }
  }

  // ---- rendering -------------------------------------------------------------------------------------------------
  function render() {
    if (!ours()) return;
    const query = address(), id = query.get("run") || "", other = (id && query.get("with")) || "";
    if (!id) return showList(query);
    if (shown === "list") scrolled = scrollY;
    runs.element.hidden = true;
    pair.hidden = back.hidden = false;
    pair.classList.toggle("two", other !== "");
    if (other) pair.append(panes[1].element);
    else panes[1].element.remove();
    const opened = shown !== id;
    shown = id;
    if (!runs.query) runs.show(asked(query));
    if (!other && panes[1].id) { panes[1].close(); share(); }
    ensure(panes[0], id, number(query, "step"));
    if (other) ensure(panes[1], other, number(query, "step2"));
    beside();
    if (opened) arrive();
  }

  function ensure(pane, id, step) {
    if (pane.id !== id) return void pane.open(id, step).then(() => pane === panes[0] && title());
    if (step !== null && pane.run && step !== pane.step) pane.pick(step);
  }

  function arrive() {
    current = panes[0];
    if (!source.embedded) scrollTo(0, 0);
    else if (app.started) main.scrollIntoView({ block: "start" });
    if (app.started) panes[0].head.question.focus({ preventScroll: true });
  }

  function title() {
    if (source.embedded) return;
    const one = panes[0].run;
    if (!one || !panes[0].id) return;
    const sign = one.alarms.length ? (one.watches === "success" ? "✓ " : "▲ ") : "";
    document.title = `${sign}${words.short(one.head.question || one.head.id, 60)} · trajkit`;
  }

  function showList(query) {
    const before = shown;
    panes.forEach((pane) => pane.id && pane.close());
    pair.hidden = back.hidden = true;
    runs.element.hidden = false;
    shown = "list";
    runs.show(asked(query));
    if (before && before !== "list") {
      if (!source.embedded) scrollTo(0, scrolled);
      runs.focus(before);
    }
    if (!source.embedded) document.title = "trajkit";
  }

  function toList() {
    go(asked(address()));
    render();
  }

  function beside() { // whether there is a run before and after
    turns.forEach((one, i) => { one.disabled = panes[1].id !== "" || !runs.beside(panes[0].id, i ? 1 : -1); });
  }

  // ---- keys ------------------------------------------------------------------------------------------------------
  const next = (by) => { const id = panes[1].id ? null : runs.beside(panes[0].id, by); if (id) open(id); };
  const cycle = (values, key) => { settings[key] = values[(values.indexOf(settings[key]) + 1) % values.length]; app.changed(); };
  const pane = () => (current && current.id ? current : panes[0]);
  const KEYS = {
    ArrowDown: () => pane().turn(1), ArrowUp: () => pane().turn(-1), j: () => pane().turn(1), k: () => pane().turn(-1),
    Home: () => pane().pick(0), End: () => pane().run && pane().pick(pane().run.steps.length - 1),
    ArrowRight: () => next(1), ArrowLeft: () => next(-1),
    p: () => pane().play(), f: () => pane().goOn(), c: () => !panes[1].id && app.compare(),
    a: () => pane().run && pane().run.alarms.length && pane().pick(pane().run.alarms.at(-1)),
    m: () => cycle(look.MODES.map(([value]) => value), "mode"), s: () => cycle(["run", "step"], "scale"),
    Escape: () => (panes[1].id ? app.close(panes[1]) : toList()),
    ...Object.fromEntries(words.LABELS.map(({ key, value }) => [key, () => pane().label(value)])),
  };

  function typed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (source.embedded && event.target !== document.body && !main.contains(event.target)) return;
    if (event.key === "?") help.showModal();
    else if (event.key === "/") { if (shown !== "list") toList(); runs.search.focus(); } else if (shown !== "list" && KEYS[event.key]) KEYS[event.key]();
    else return;
    event.preventDefault();
  }

  // ---- start -----------------------------------------------------------------------------------------------------
  const main = document.getElementById("app");
  const pair = make("div", { class: "pair-of-runs", hidden: true }, panes[0].element);
  const back = make("a", { class: "back", href: "#", hidden: true, onclick: (event) => { event.preventDefault(); toList(); } }, "‹ All runs");
  const turns = [["Previous run", "←", "‹ run", -1], ["Next run", "→", "run ›", 1]].map(([name, key, text, by]) =>
    button({ class: "plain", "aria-label": name, title: `Key ${key}`, onclick: () => next(by) }, text));
  const brand = make("a", { class: "brand", href: "#", onclick: (event) => { event.preventDefault(); go(new URLSearchParams()); render(); } }, "trajkit");
  dom.put(main,
    make("div", { class: "topbar" }, !source.embedded && brand, back, make("span", { class: "grow" }),
      make("span", { class: "turns" }, turns),
      button({ class: "plain", onclick: () => help.showModal(), title: "Key ?" }, "Keys ", make("kbd", {}, "?"))),
    charts.hatch(), runs.element, pair, help, chooser.element,
    make("div", { id: "urgent", class: "unseen", "aria-live": "assertive" }), make("div", { id: "polite", class: "unseen", "aria-live": "polite" }));

  function paper(on) { // pictures on canvases are drawn anew, in the colours of paper
    document.documentElement.classList.toggle("paper", on);
    panes.forEach((one) => { if (one.run) { one.redraw(); one.resized(); } });
  }
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));
  matchMedia("print").addEventListener("change", (event) => paper(event.matches));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paper(document.documentElement.classList.contains("paper")));
  addEventListener("hashchange", render);
  addEventListener("popstate", render);
  document.addEventListener("keydown", typed);
  source.list(new URLSearchParams({ limit: "1" })).then((found) => { keepLabels = found.labels; panes.forEach((one) => one.run && one.refresh()); }, () => {});
  render();
  app.started = true;
})();
