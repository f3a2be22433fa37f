"use strict";
// Elements, made of text nodes alone: nothing that a model wrote is ever read as markup.
const dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const shown = (child) => child !== null && child !== undefined && child !== false && child !== "";

  function filled(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter(shown));
    return element;
  }

  // make("p", {class: "muted"}, "text", child, …); an attribute or a child that is null or false is left out
  const make = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);
  const button = (attributes, ...children) => make("button", { type: "button", ...attributes }, ...children);

  function put(element, ...children) { // in the place of what it holds
    element.replaceChildren(...children.flat().filter(shown));
    return element;
  }

  function set(element, name, value) { // an attribute, or none where the value is null or false
    if (shown(value)) element.setAttribute(name, value === true ? "" : value);
    else element.removeAttribute(name);
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function say(text, urgent) { // to those who hear the page
    const place = document.getElementById(urgent ? "urgent" : "polite");
    if (!place) return;
    place.textContent = "";
    setTimeout(() => { place.textContent = text; }, 50); // a text that changes is read, one that is the same is not
  }

  return { make, svg, button, put, set, colour, say };
})();
