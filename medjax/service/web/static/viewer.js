// The image of an analysis with its maps over it, by niivue.
import { Niivue, SLICE_TYPE } from './niivue-0.69.0.js';

const MAPS = {
  mask: { opacity: 0.5, cal_min: 0, cal_max: 0 },
  uncertainty: { opacity: 0.6, colormap: 'hot', cal_min: 25, cal_max: 255 },
  explanation: { opacity: 0.6, colormap: 'viridis', cal_min: 25, cal_max: 255 },
};
// The palette of medjax's masks (Okabe and Ito 2008).
const COLOURS = [
  [0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66],
  [0, 114, 178], [213, 94, 0], [204, 121, 167],
];

function table(count) {
  const at = (k, c) => COLOURS[k === 0 ? 0 : ((k - 1) % 7) + 1][c];
  const labels = [...Array(count + 1).keys()];
  return {
    R: labels.map((k) => at(k, 0)),
    G: labels.map((k) => at(k, 1)),
    B: labels.map((k) => at(k, 2)),
    A: labels.map((k) => (k ? 255 : 0)),
    I: labels,
    labels: labels.map(String),
  };
}

async function show(box) {
  const { job, classes } = box.dataset;
  const flat = box.dataset.flat === 'true';
  const kinds = box.dataset.views.split(' ').filter((k) => k in MAPS);
  const place = (kind) => `/results/${job}/${kind}.nii.gz`;
  const viewer = new Niivue({
    backColor: [0, 0, 0, 1],
    crosshairWidth: flat ? 0 : 0.4,
    crosshairColor: [1, 1, 1, 0.6],
    show3Dcrosshair: false,
    dragAndDropEnabled: false,
    isResizeCanvas: true,
    loadingText: '',
  });
  await viewer.attachToCanvas(box.querySelector('canvas'));
  await viewer.loadVolumes([
    { url: place('image'), colormap: 'gray' },
    ...kinds.map((kind) => ({ url: place(kind), ...MAPS[kind] })),
  ]);
  const layers = Object.fromEntries(kinds.map((kind, k) => [kind, k + 1]));
  if (layers.mask) {
    viewer.volumes[layers.mask].setColormapLabel(table(Number(classes)));
    viewer.updateGLVolume();
  }
  viewer.setSliceType(flat ? SLICE_TYPE.AXIAL : SLICE_TYPE.MULTIPLANAR);
  viewer.setInterpolation(true);
  for (const input of box.querySelectorAll('input[type=checkbox]')) {
    const apply = () => {
      const layer = layers[input.name];
      const opacity = input.checked ? MAPS[input.name].opacity : 0;
      viewer.setOpacity(layer, opacity);
    };
    input.addEventListener('change', apply);
    apply();
  }
  const range = box.querySelector('input[type=range]');
  if (range) {
    range.addEventListener('input', () => {
      viewer.scene.crosshairPos[2] = Number(range.value) / 100;
      viewer.drawScene();
    });
    if (layers.mask) {  // begin where there is something to see
      const middle = Number(box.dataset.middle);
      range.value = middle;
      viewer.scene.crosshairPos[2] = middle / 100;
      viewer.drawScene();
    }
  }
  box.dataset.ready = 'true';
}

for (const box of document.querySelectorAll('.viewer')) {
  show(box).catch((error) => {
    box.dataset.ready = 'failed';
    box.querySelector('.said').textContent =
      `The image cannot be shown here (${error.message}).`;
  });
}
