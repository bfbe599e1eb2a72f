/**
 * The invitation that a link brought along (docs/adr/0032). It stands behind the `#`, which browsers send to nobody, and is
 * taken out of the address at once: nothing of it stays in the history, and nobody reads it over a shoulder.
 */
import { useSyncExternalStore } from 'react'

const NAME = 'invitation'

let brought: string | null = null
const listeners = new Set<() => void>()

function set(next: string | null): void {
  brought = next
  for (const listener of listeners) listener()
}

/** What opens, of a link or of what is behind its `#`, as somebody pasted it. */
export function tokenOf(pasted: string): string {
  const text = pasted.trim()
  const at = text.indexOf('#')
  return new URLSearchParams(text.slice(at + 1)).get(NAME) ?? text
}

/** Takes it out of the address. */
export function take(): void {
  const found = new URLSearchParams(window.location.hash.slice(1)).get(NAME)
  if (found === null) return
  window.history.replaceState(window.history.state, '', window.location.pathname + window.location.search)
  set(found.trim() === '' ? null : found.trim())
}

/** An account was made with it. */
export const spent = (): void => set(null)

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

/** The one that is there now. */
export const useInvitation = (): string | null => useSyncExternalStore(subscribe, () => brought)

take()
// A link that is pasted into the address of a page which is open already loads nothing.
window.addEventListener('hashchange', take)
