/**
 * Lets libraries write style sheets under a policy that forbids inline ones.
 *
 * Monaco and Radix make `<style>` elements and put text into them, which `style-src 'self'` refuses,
 * and a nonce would need a page of its own for every visitor. So the text goes into a constructed
 * sheet, which no policy concerns, and the element stays empty. The empty element itself is in the
 * policy, by its hash, because Monaco adds rules to it one by one.
 *
 * Imported first, before any library runs.
 */
const sheets = new WeakMap<HTMLStyleElement, CSSStyleSheet>();
const texts = new WeakMap<HTMLStyleElement, string>();

function write(element: HTMLStyleElement, text: string) {
  texts.set(element, text);
  let sheet = sheets.get(element);
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheets.set(element, sheet);
    document.adoptedStyleSheets.push(sheet);
  }
  sheet.replaceSync(text);
}

function forget(node: Node) {
  const sheet = node instanceof HTMLStyleElement && sheets.get(node);
  if (sheet) {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((known) => known !== sheet);
    sheets.delete(node);
  }
}

Object.defineProperty(HTMLStyleElement.prototype, "textContent", {
  configurable: true,
  get(this: HTMLStyleElement) {
    return texts.get(this) ?? "";
  },
  set(this: HTMLStyleElement, text: string | null) {
    write(this, text ?? "");
  },
});

HTMLStyleElement.prototype.appendChild = function <T extends Node>(this: HTMLStyleElement, node: T): T {
  if (node instanceof Text) {
    write(this, (texts.get(this) ?? "") + node.data);
    return node;
  }
  return Node.prototype.appendChild.call(this, node) as T;
};

new MutationObserver((changes) => {
  for (const change of changes) change.removedNodes.forEach(forget);
}).observe(document.head, { childList: true });

export {};
