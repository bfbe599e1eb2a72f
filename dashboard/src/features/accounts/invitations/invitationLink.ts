/**
 * The invitation of the link that opened the page (docs/adr/0032). Its token is behind the `#`, which browsers send to no
 * server, and is removed from the address at once, so that it stays neither in the history nor on the screen.
 */
import { useSyncExternalStore } from 'react'

const NAME = 'invitation'

let current: string | null = null
const listeners = new Set<() => void>()

function set(next: string | null): void {
  current = next
  for (const listener of listeners) listener()
}

/** The token in a pasted text: a whole link, the part behind its `#`, or the token alone. */
export function invitationToken(pasted: string): string {
  const text = pasted.trim()
  const at = text.indexOf('#')
  return new URLSearchParams(text.slice(at + 1)).get(NAME) ?? text
}

/** Reads the token from the address, and removes it there. */
export function takeFromAddress(): void {
  const found = new URLSearchParams(window.location.hash.slice(1)).get(NAME)
  if (found === null) return
  window.history.replaceState(window.history.state, '', window.location.pathname + window.location.search)
  set(found.trim() === '' ? null : found.trim())
}

/** To be called when an account was created with the invitation. */
export const clearInvitation = (): void => set(null)

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

/** The current token; `null` for none. */
export const useInvitation = (): string | null => useSyncExternalStore(subscribe, () => current)

takeFromAddress()
// A link that is pasted into the address bar of the open page only changes the hash.
window.addEventListener('hashchange', takeFromAddress)
