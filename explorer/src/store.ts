import { useSyncExternalStore } from "react";

/** A value that components read and anybody may replace. */
export interface Store<T> {
  get(): T;
  set(change: Partial<T>): void;
  subscribe(listener: () => void): () => void;
}

export function store<T extends object>(initial: T): Store<T> {
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

export function useStore<T>(of: Store<T>): T {
  return useSyncExternalStore(of.subscribe, of.get);
}

const PREFIX = "palisade:explorer:";

/** Reads what an earlier visit left; whatever cannot be read was never there. */
export function recall<T>(where: Storage, name: string): T | undefined {
  try {
    const kept = where.getItem(PREFIX + name);
    return kept === null ? undefined : (JSON.parse(kept) as T);
  } catch {
    return undefined;
  }
}

/** Leaves something for the next visit, or takes it away. */
export function keep(where: Storage, name: string, value: unknown) {
  try {
    if (value === undefined) where.removeItem(PREFIX + name);
    else where.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // A full or forbidden storage makes the explorer forgetful, not useless.
  }
}
