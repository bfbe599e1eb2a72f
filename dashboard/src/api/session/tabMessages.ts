/** Messages between the tabs of one browser. */
import { storageKey } from '../storage'
import type { User } from './authRequests'
import { openChannel } from './tabs'

export type TabMessage =
  | { kind: 'token'; base: string; id: string; since: number; value: string; left_ms: number; user: User }
  | { kind: 'out'; base: string; id: string; why: string | null }
  | { kind: 'ask'; base: string }
  | { kind: 'cleared' }

/** The channel to the other tabs; `null` where the browser has none. */
export const tabChannel = openChannel(storageKey('session', ''))

/** Sends a message to every other tab. */
export const postToTabs = (message: TabMessage): void => tabChannel?.postMessage(message)
