/** `localStorage` where the browser allows it, else memory: with storage disabled, everything works until a reload. */
import { BASE_PATH } from './serverUrl'

const memory = new Map<string, string>()

/** The value of a key; `null` where there is none, or where it is not JSON. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller knows what it wrote
export function read<T>(key: string): T | null {
  // Memory holds what could not be written to storage, which is newer.
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
    // Storage is disabled: nothing is stored.
  }
}

/** A text of this tab that survives reloads; `null` where there is none or storage is disabled. */
export function readForTab(key: string): string | null {
  try {
    return sessionStorage.getItem(key)
  } catch {
    return null
  }
}

export function writeForTab(key: string, text: string): void {
  try {
    sessionStorage.setItem(key, text)
  } catch {
    // Storage is disabled: it is lost with the page.
  }
}

const PROBE = 'hexa.probe'
let available: boolean | null = null

/** Whether the browser stores data for this page. */
export function isStorageAvailable(): boolean {
  if (available !== null) return available
  try {
    localStorage.setItem(PROBE, '1')
    localStorage.removeItem(PROBE)
    available = true
  } catch {
    available = false
  }
  return available
}

/**
 * The storage key of data that belongs to one server: `hexa.session` for the page's own server at the root of its host,
 * `hexa.session@/hexa` and `hexa.session@https://other.example` for others; `#` and an id follow for one account's data.
 */
export function storageKey(name: string, base: string, account?: string): string {
  const server = base === '' ? BASE_PATH : base
  return `hexa.${name}${server === '' ? '' : `@${server}`}${account === undefined ? '' : `#${account}`}`
}

const KEY = /^hexa\.[a-z_]+(?:@([^#]*))?(?:#.*)?$/

const belongsTo = (key: string, base: string): boolean => {
  const found = KEY.exec(key)
  return found !== null && (found[1] ?? '') === (base === '' ? BASE_PATH : base)
}

/** Removes everything that is stored for one server but `except`; data of other servers stays. */
export function clearServerData(base: string, except: readonly string[]): void {
  const isRemoved = (key: string) => belongsTo(key, base) && !except.includes(key)
  for (const key of [...memory.keys()]) if (isRemoved(key)) memory.delete(key)
  try {
    for (const key of Object.keys(localStorage)) if (isRemoved(key)) localStorage.removeItem(key)
  } catch {
    // Storage is disabled: nothing is stored.
  }
}

/** Remembers what is stored for other servers; the function it returns restores what is missing by then. */
export function snapshotOtherServers(base: string): () => void {
  const others: [string, string][] = []
  try {
    for (const key of Object.keys(localStorage))
      if (KEY.test(key) && !belongsTo(key, base)) others.push([key, localStorage.getItem(key) ?? ''])
  } catch {
    // Storage is disabled: nothing is stored.
  }
  return () => {
    try {
      for (const [key, text] of others) if (localStorage.getItem(key) === null) localStorage.setItem(key, text)
    } catch {
      // Storage is disabled.
    }
  }
}
