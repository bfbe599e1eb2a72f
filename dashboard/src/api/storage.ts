/** `localStorage` where the browser allows it, else memory: with storage disabled everything works until the reload. */
import { PREFIX } from './serverUrl'

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

const PROBE = 'hexa.probe'
let kept: boolean | null = null

/** Whether the browser keeps anything for this page. */
export function keeps(): boolean {
  if (kept !== null) return kept
  try {
    localStorage.setItem(PROBE, '1')
    localStorage.removeItem(PROBE)
    kept = true
  } catch {
    kept = false
  }
  return kept
}

/**
 * The key of something that belongs to one server: `hexa.session` for the page's own one at the root of its host,
 * `hexa.session@/hexa` and `hexa.session@https://other.example` for others, and of one account there with `#` and its id.
 */
export function keyOf(name: string, base: string, account?: string): string {
  const server = base === '' ? PREFIX : base
  return `hexa.${name}${server === '' ? '' : `@${server}`}${account === undefined ? '' : `#${account}`}`
}

const KEY = /^hexa\.[a-z_]+(?:@([^#]*))?(?:#.*)?$/

const isOf = (key: string, base: string): boolean => {
  const found = KEY.exec(key)
  return found !== null && (found[1] ?? '') === (base === '' ? PREFIX : base)
}

/** Everything that is kept of one server (DB-4) but `spared`; what belongs to others is theirs. */
export function clear(base: string, spared: readonly string[]): void {
  const goes = (key: string) => isOf(key, base) && !spared.includes(key)
  for (const key of [...memory.keys()]) if (goes(key)) memory.delete(key)
  try {
    for (const key of Object.keys(localStorage)) if (goes(key)) localStorage.removeItem(key)
  } catch {
    // Nothing was kept.
  }
}

/** What is kept of other servers, as it is now: gives what puts back whatever of it is missing later. */
export function remember(base: string): () => void {
  const others: [string, string][] = []
  try {
    for (const key of Object.keys(localStorage))
      if (KEY.test(key) && !isOf(key, base)) others.push([key, localStorage.getItem(key) ?? ''])
  } catch {
    // Nothing was kept.
  }
  return () => {
    try {
      for (const [key, text] of others) if (localStorage.getItem(key) === null) localStorage.setItem(key, text)
    } catch {
      // Nothing is kept.
    }
  }
}
