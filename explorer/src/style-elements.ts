/**
 * Lets libraries write style sheets although the content security policy forbids inline ones.
 *
 * Monaco and Radix create `<style>` elements and set their text, which `style-src 'self'` blocks. A nonce would need a
 * different page for each request. Therefore, this module puts the text into a constructed style sheet, to which the
 * policy does not apply, and leaves the element empty. The policy allows empty elements by their hash, because Monaco
 * adds rules one by one to an empty element.
 *
 * Import this module first: it must run before any library.
 */
const sheets = new WeakMap<HTMLStyleElement, CSSStyleSheet>();
const texts = new WeakMap<HTMLStyleElement, string>();

function setText(element: HTMLStyleElement, text: string) {
  texts.set(element, text);
  let sheet = sheets.get(element);
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheets.set(element, sheet);
    document.adoptedStyleSheets.push(sheet);
  }
  sheet.replaceSync(text);
}

function removeSheet(node: Node) {
  const sheet = node instanceof HTMLStyleElement && sheets.get(node);
  if (sheet) {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    sheets.delete(node);
  }
}

Object.defineProperty(HTMLStyleElement.prototype, "textContent", {
  configurable: true,
  get(this: HTMLStyleElement) {
    return texts.get(this) ?? "";
  },
  set(this: HTMLStyleElement, text: string | null) {
    setText(this, text ?? "");
  },
});

HTMLStyleElement.prototype.appendChild = function <T extends Node>(this: HTMLStyleElement, node: T): T {
  if (node instanceof Text) {
    setText(this, (texts.get(this) ?? "") + node.data);
    return node;
  }
  return Node.prototype.appendChild.call(this, node) as T;
};

new MutationObserver((changes) => {
  for (const change of changes) change.removedNodes.forEach(removeSheet);
}).observe(document.head, { childList: true });

export {};
