// Turns through views, wipes between two pictures.  Without it all of them are seen side by side.
'use strict';
(function () {
  document.documentElement.classList.add('js');

  document.querySelectorAll('.turntable').forEach(function (table) {
    var views = table.querySelectorAll('.view'), slider = table.querySelector('input'), from = null;
    function show() {
      var chosen = Number(slider.value);
      views.forEach(function (view, i) { view.classList.toggle('current', i === chosen); });
      slider.setAttribute('aria-valuetext', views[chosen].dataset.name);
    }
    function turn(value) {
      slider.value = Math.max(0, Math.min(views.length - 1, value));
      show();
    }
    slider.addEventListener('input', show);
    // The pictures can be dragged, too: the face follows the pointer.
    var stage = table.querySelector('.views');
    stage.addEventListener('pointerdown', function (event) {
      from = {x: event.clientX, value: Number(slider.value)};
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener('pointermove', function (event) {
      if (from) { turn(from.value - Math.round((event.clientX - from.x) / stage.clientWidth * 1.5 * views.length)); }
    });
    ['pointerup', 'pointercancel'].forEach(function (name) {
      stage.addEventListener(name, function () { from = null; });
    });
    stage.addEventListener('dragstart', function (event) { event.preventDefault(); });
    show();
  });

  document.querySelectorAll('.wipe').forEach(function (wipe) {
    var slider = wipe.querySelector('input'), over = wipe.querySelector('.over');
    function show() {
      over.style.setProperty('--border', (100 - slider.value) + '%');
      slider.setAttribute('aria-valuetext', slider.value + ' percent after');
    }
    slider.addEventListener('input', show);
    var pictures = wipe.querySelector('.pictures');
    function draw(event) {
      if (event.buttons) {
        var place = pictures.getBoundingClientRect();
        slider.value = Math.round(100 - (event.clientX - place.left) / place.width * 100);
        show();
      }
    }
    pictures.addEventListener('pointerdown', draw);
    pictures.addEventListener('pointermove', draw);
    pictures.addEventListener('dragstart', function (event) { event.preventDefault(); });
    show();
  });

  // What is folded away belongs on paper all the same.
  window.addEventListener('beforeprint', function () {
    document.querySelectorAll('details').forEach(function (details) { details.open = true; });
  });
})();
