// A mask painted by hand: brush, eraser and polygon on the image. Nothing is fetched; the mask goes back as a PNG in a data URL.
const COLOUR = "rgba(230, 159, 0, 0.45)";
const LINE = "rgb(230, 159, 0)";
const STEPS_BACK = 10;
const HINTS = {
  paint: "Paint over the lesion.",
  erase: "Erase what is not lesion.",
  polygon: "Click from corner to corner; double-click, or press Enter, to close. Escape drops it.",
};

export default function (component) {
  const root = component.parentElement;
  // Streamlit calls this at every rerun: the same image keeps its strokes, and only the way back is new.
  const known = root.maskEditor;
  if (known && known.id === component.data.id) {
    known.send = component.setTriggerValue;
    return known.leave;
  }
  if (known) known.leave();
  root.maskEditor = editor(root, component.data, component.setTriggerValue);
  return root.maskEditor.leave;
}

function editor(root, data, send) {
  const canvas = root.querySelector("canvas");
  const hint = root.querySelector(".hint");
  const brush = root.querySelector("input");
  const mask = document.createElement("canvas");
  for (const one of [canvas, mask]) {
    one.width = data.width;
    one.height = data.height;
  }
  const view = canvas.getContext("2d");
  const paper = mask.getContext("2d", { willReadFrequently: true });
  const listening = new AbortController();
  const on = (target, kind, act) => target.addEventListener(kind, act, { signal: listening.signal });
  const self = { id: data.id, send, leave };
  const image = new Image();
  const given = new Image();
  const past = [];
  let tool = "paint";
  let last = null;
  let corners = [];

  function leave() {
    listening.abort();
    root.maskEditor = null;
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  }

  function remember() {
    past.push(paper.getImageData(0, 0, mask.width, mask.height));
    if (past.length > STEPS_BACK) past.shift();
  }

  function stroke(from, to) {
    paper.globalCompositeOperation = tool === "erase" ? "destination-out" : "source-over";
    paper.strokeStyle = "#fff";
    paper.lineCap = "round";
    paper.lineWidth = Number(brush.value) * (canvas.width / 500);
    paper.beginPath();
    paper.moveTo(...from);
    paper.lineTo(...to);
    paper.stroke();
  }

  function close() {
    if (corners.length > 2) {
      remember();
      paper.globalCompositeOperation = "source-over";
      paper.fillStyle = "#fff";
      paper.beginPath();
      corners.forEach((corner) => paper.lineTo(...corner));
      paper.fill();
    }
    corners = [];
    draw();
  }

  function draw() {
    view.globalCompositeOperation = "source-over";
    view.drawImage(image, 0, 0, canvas.width, canvas.height);
    const tint = document.createElement("canvas");
    tint.width = canvas.width;
    tint.height = canvas.height;
    const colour = tint.getContext("2d");
    colour.drawImage(mask, 0, 0);
    colour.globalCompositeOperation = "source-in";
    colour.fillStyle = COLOUR;
    colour.fillRect(0, 0, tint.width, tint.height);
    view.drawImage(tint, 0, 0);
    if (!corners.length) return;
    view.strokeStyle = LINE;
    view.fillStyle = LINE;
    view.lineWidth = Math.max(1, canvas.width / 300);
    view.beginPath();
    corners.forEach((corner) => view.lineTo(...corner));
    view.stroke();
    corners.forEach(([x, y]) => view.fillRect(x - 3, y - 3, 6, 6));
  }

  function reset() {
    paper.globalCompositeOperation = "source-over";
    paper.clearRect(0, 0, mask.width, mask.height);
    paper.drawImage(given, 0, 0, mask.width, mask.height);
  }

  function choose(name) {
    tool = name;
    corners = [];
    hint.textContent = HINTS[name];
    root.querySelectorAll("[data-tool]").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.tool === name)));
    draw();
  }

  const acts = {
    undo() {
      if (corners.length) corners.pop();
      else if (past.length) paper.putImageData(past.pop(), 0, 0);
    },
    clear() {
      remember();
      corners = [];
      paper.clearRect(0, 0, mask.width, mask.height);
    },
    reset() {
      remember();
      corners = [];
      reset();
    },
    apply() {
      if (corners.length) close();
      self.send("mask", { id: data.id, png: mask.toDataURL("image/png") });
      hint.textContent = "Using this mask.";
    },
  };

  on(canvas, "pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    if (tool === "polygon") {
      corners.push(place(event));
    } else {
      remember();
      canvas.setPointerCapture(event.pointerId);
      last = place(event);
      stroke(last, last);
    }
    draw();
  });
  on(canvas, "pointermove", (event) => {
    if (!last) return;
    const here = place(event);
    stroke(last, here);
    last = here;
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) on(canvas, end, () => (last = null));
  on(canvas, "dblclick", () => tool === "polygon" && close());
  on(document, "keydown", (event) => {
    if (!corners.length) return;
    if (event.key === "Enter") close();
    if (event.key === "Escape") {
      corners = [];
      draw();
    }
  });
  root.querySelectorAll("[data-tool]").forEach((one) => on(one, "click", () => choose(one.dataset.tool)));
  root.querySelectorAll("[data-do]").forEach((one) =>
    on(one, "click", () => {
      acts[one.dataset.do]();
      draw();
    }),
  );
  image.onload = draw;
  given.onload = () => {
    reset();
    draw();
  };
  image.src = data.image;
  given.src = data.mask;
  choose("paint");
  return self;
}
