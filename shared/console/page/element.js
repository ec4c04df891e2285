/**
 * Elements without markup: what comes from outside becomes text, never HTML.
 *
 * @typedef {Node | string | number | undefined | false} Child
 */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag may name classes after it: use `props.class`
 * @param {Record<string, string | boolean | undefined>} [props] attributes; `true` is an empty one, `undefined` none
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) set(element, name, value);
  for (const child of children) if (child !== undefined && child !== false) element.append(nodeOf(child));
  return element;
}

/**
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | number>} [props]
 * @param {...SVGElement} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * Sets text only if it differs, to keep a selection and the position of a screen reader.
 * @param {Element} element
 * @param {string | number} text
 */
export function say(element, text) {
  const value = String(text);
  if (element.textContent !== value) element.textContent = value;
}

/** @param {Element} element @param {string} name @param {string | boolean | undefined} value */
export function set(element, name, value) {
  if (value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== (value === true ? '' : value)) {
    element.setAttribute(name, value === true ? '' : value);
  }
}

/**
 * Makes the children of an element match a list of items, and reuses existing ones.
 * @template I
 * @template {Element} E
 * @param {Element} parent
 * @param {readonly I[]} items
 * @param {() => E} make
 * @param {(element: E, item: I) => void} update
 */
export function list(parent, items, make, update) {
  while (parent.children.length > items.length) parent.lastElementChild?.remove();
  while (parent.children.length < items.length) parent.append(make());
  for (const [i, item] of items.entries()) update(/** @type {E} */ (parent.children[i]), item);
}

/**
 * A table with a heading for each column.
 * @param {string} className
 * @param {string | undefined} caption for screen readers
 * @param {readonly string[]} names
 */
export function table(className, caption, names) {
  const body = h('tbody');
  const heads = names.map((name) => h('th', { scope: 'col' }, name));
  const element = h(
    'table',
    { class: className },
    caption !== undefined && h('caption', { class: 'away' }, caption),
    h('thead', {}, h('tr', {}, ...heads)),
    body,
  );
  return { element, body };
}

/**
 * The first children of an element that was made with them.
 * @param {Element} element
 * @returns {[Element, Element, Element, Element]}
 */
export function parts(element) {
  return /** @type {any} */ ([...element.children]);
}

/** A bar that shows a share. @param {string} [className] */
export function meter(className = '') {
  const value = h('span', { class: 'meter-value' });
  const element = h('span', { class: `meter ${className}`, role: 'presentation' }, value);
  return {
    element,
    /** @param {number} share 0 to 1 */
    update(share) {
      value.style.inlineSize = `${Math.min(100, Math.max(share > 0 ? 1 : 0, share * 100)).toFixed(2)}%`;
    },
  };
}

/** @param {Child} child */
function nodeOf(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}
