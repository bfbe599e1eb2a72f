/** `localStorage` where the browser allows it, else memory: with storage disabled everything works until the reload. */
const memory = new Map<string, string>()

// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- who reads knows what was written
export function read<T>(key: string): T | null {
  let text: string | null | undefined
  try {
    text = localStorage.getItem(key)
  } catch {
    text = memory.get(key)
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

/** Everything that the console keeps begins so. */
export const PREFIX = 'hexa.'

/** All of it (DB-4), but for what is `kept`. */
export function clear(kept: readonly string[] = []): void {
  memory.clear()
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX) && !kept.includes(key)) localStorage.removeItem(key)
  } catch {
    // Nothing was kept.
  }
}
