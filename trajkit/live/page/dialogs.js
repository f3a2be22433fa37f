"use strict";
// What opens over the page: the keys, and the choice of a second run.
const dialogs = (() => {
  const { make, button } = dom;
  const HELP = [
    ["↓ ↑", "next, previous step (also j, k)"], ["Home End", "first, last step"], ["p", "play, pause"], ["f", "follow the newest step of a live run"],
    ["a", "go to the alarm"], ["→ ←", "next, previous run of the list"], ["m", "spotlight, colours, image only"], ["s", "scale: whole run, this step"],
    ["c", "compare with a second run"], ["Tab", "to the effects and the trajectory; arrow keys then move in them"],
    ["1 2 3 0", "label: hallucination, reasoning failure, fine, none"], ["/", "search; ↓ goes on to the runs"], ["Esc", "back to the list"], ["?", "this help"],
  ];

  function dialog(title, ...children) {
    const close = button({ class: "plain", "aria-label": "Close", onclick: () => element.close() }, "✕");
    const element = make("dialog", { "aria-label": title }, make("header", {}, make("h2", {}, title), close), ...children);
    element.addEventListener("click", (event) => { if (event.target === element) element.close(); }); // beside it
    return element;
  }

  function help() {
    return dialog("Keys", make("dl", { class: "keys" }, HELP.map(([keys, what]) => make("div", {}, make("dt", {}, keys.split(" ").map((key) => make("kbd", {}, key))), make("dd", {}, what)))));
  }

  class Chooser { // of a run to compare another with
    constructor(source, chosen) {
      Object.assign(this, { source, chosen, asked: 0 });
      this.search = make("input", { type: "search", "aria-label": "Search runs", placeholder: "Search questions, answers, ids" });
      this.list = make("ol", { class: "runs" });
      this.note = make("p", { class: "muted", role: "status" });
      this.element = dialog("Compare with", this.search, this.note, this.list);
      list.rowsByKeys(this.search, this.list);
      this.search.addEventListener("input", () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.find(this.search.value.trim()), 200); });
    }

    open(run) {
      this.run = run;
      this.search.value = "";
      this.element.showModal();
      this.search.focus();
      this.find("");
    }

    async find(search) { // those on the same image first, where nothing else is asked for
      const asked = (this.asked += 1), { head: row } = this.run;
      try {
        const ask = (text) => this.source.list(new URLSearchParams({ search: text, limit: "40" }));
        const near = search || !row.group ? null : await ask(row.group), found = await ask(search);
        if (asked !== this.asked) return;
        const same = near ? near.runs.filter((one) => one.group === row.group) : [];
        const all = [...new Map([...same, ...found.runs].map((one) => [one.id, one])).values()].filter((one) => one.id !== row.id).slice(0, 40);
        this.note.textContent = all.length ? "" : "There is no other run.";
        dom.put(this.list, all.map((one) => this.entry(one)));
      } catch (error) {
        if (asked === this.asked) this.note.textContent = error.message;
      }
    }

    entry(row) {
      const same = row.group && row.group === this.run.head.group;
      const one = button({ onclick: () => { this.element.close(); this.chosen(row.id); } }, same && make("span", { class: "tag same" }, "same image"), list.entry(row));
      return make("li", {}, one);
    }
  }

  return { help, Chooser };
})();
