// The before/after slider: two pictures of one size, the second seen to the right of the handle.
"use strict";

function slider(before, after, names) {
  const box = element("div", { class: "slider" });
  const range = element("input", {
    type: "range", min: 0, max: 100, value: 50, step: 1, "aria-label": `${names[0]} to the left, ${names[1]} to the right`,
  });
  const move = () => box.style.setProperty("--at", `${range.value}%`);
  range.addEventListener("input", move);
  const onto = (event) => {
    const { left, width } = box.getBoundingClientRect();
    range.value = Math.round((100 * (event.clientX - left)) / width);
    move();
  };
  box.addEventListener("pointerdown", (event) => {
    if (event.target === range) return;
    box.setPointerCapture(event.pointerId);
    onto(event);
    box.addEventListener("pointermove", onto);
    event.preventDefault();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    box.addEventListener(end, () => box.removeEventListener("pointermove", onto));
  }
  const top = element("div", { class: "top-layer" }, after);
  box.append(before, top, element("span", { class: "handle", "aria-hidden": "true" }),
    element("span", { class: "tag left" }, names[0]), element("span", { class: "tag right" }, names[1]), range);
  move();
  return box;
}
