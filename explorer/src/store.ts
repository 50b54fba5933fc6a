import { useSyncExternalStore } from "react";

/** State that components share: they read it with {@link useStore} and change it with `set`. */
export interface Store<T> {
  get(): T;
  set(change: Partial<T>): void;
  subscribe(listener: () => void): () => void;
}

export function createStore<T extends object>(initial: T): Store<T> {
  let value = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set(change) {
      value = { ...value, ...change };
      for (const listener of listeners) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, store.get);
}

const KEY_PREFIX = "palisade:explorer:";

/** Reads a value from browser storage. Returns undefined if it is missing or unreadable. */
export function loadItem<T>(storage: Storage, name: string): T | undefined {
  try {
    const json = storage.getItem(KEY_PREFIX + name);
    return json === null ? undefined : (JSON.parse(json) as T);
  } catch {
    return undefined;
  }
}

/** Writes a value to browser storage, or removes it if it is undefined. */
export function saveItem(storage: Storage, name: string, value: unknown) {
  try {
    if (value === undefined) storage.removeItem(KEY_PREFIX + name);
    else storage.setItem(KEY_PREFIX + name, JSON.stringify(value));
  } catch {
    // Storage may be full or blocked. The explorer works without it, but forgets the value on a reload.
  }
}
