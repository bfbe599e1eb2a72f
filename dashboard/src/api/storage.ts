/** `localStorage` where the browser allows it, else memory: with storage disabled everything works until the reload. */
const memory = new Map<string, string>()

// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- who reads knows what was written
export function read<T>(key: string): T | null {
  // What could not be written to storage is newer than what is there.
  let text: string | null | undefined = memory.get(key)
  try {
    text ??= localStorage.getItem(key)
  } catch {
    // Storage is disabled.
  }
  if (text == null) return null
  try {
    return JSON.parse(text) as T
  } catch {
    return null
  }
}

export function write(key: string, value: unknown): void {
  const text = JSON.stringify(value)
  try {
    localStorage.setItem(key, text)
    memory.delete(key)
  } catch {
    memory.set(key, text)
  }
}

export function remove(key: string): void {
  memory.delete(key)
  try {
    localStorage.removeItem(key)
  } catch {
    // Nothing was kept.
  }
}

/** A text of this tab alone, over reloads; none where storage is disabled. */
export function readOfTab(key: string): string | null {
  try {
    return sessionStorage.getItem(key)
  } catch {
    return null
  }
}

export function writeOfTab(key: string, text: string): void {
  try {
    sessionStorage.setItem(key, text)
  } catch {
    // It is forgotten with the page then.
  }
}

/** Everything that the console keeps begins so. */
export const PREFIX = 'hexa.'

/** All of it (DB-4), but for what is `kept`. */
export function clear(kept: (key: string) => boolean): void {
  for (const key of [...memory.keys()]) if (!kept(key)) memory.delete(key)
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX) && !kept(key)) localStorage.removeItem(key)
  } catch {
    // Nothing was kept.
  }
}
