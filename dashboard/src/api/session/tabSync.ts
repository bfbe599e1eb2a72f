/** Keeps the tabs of a browser in step: one sign-in, one access token, one sign-out. */
import { isCookieless } from './authRequests'
import { accessToken, adoptToken, current, endSession, hasEnded, markEnded, readRefreshToken, saveIfMissing, shareToken, type SignIn, state } from './current'
import { postToTabs, tabChannel, type TabMessage } from './tabMessages'

/** Tabs that have a token answer within this time. */
const TAB_REPLY_MS = 300

/** The sign-in that a message is about; `null` where it has ended here, or began before the current one. */
function signInOf({ base, id, since }: { base: string; id: string; since: number }): SignIn | null {
  if (hasEnded(id)) return null
  if (id === current.id && state.status !== 'out') return current
  if (state.status === 'in' && since <= current.since) return null
  return { base, id, since, ended: new AbortController() }
}

function takeToken(message: TabMessage & { kind: 'token' }): void {
  const of = signInOf(message)
  // A token of the same sign-in that ends earlier was delayed on its way.
  const older = of === current && accessToken !== null && performance.now() + message.left_ms < accessToken.until
  if (of === null || older) return
  adoptToken(of, message.value, message.left_ms, message.user)
  readRefreshToken(of.base)
}

tabChannel?.addEventListener('message', (event: MessageEvent<TabMessage>) => {
  const message = event.data
  if (message.kind === 'cleared') {
    saveIfMissing()
    return
  }
  if (message.base !== current.base) return
  if (message.kind === 'token' && !isCookieless()) takeToken(message)
  if (message.kind === 'out') {
    if (message.id === current.id && state.status !== 'out') endSession(message.why, false)
    else if (message.id !== current.id) markEnded(message.id)
  }
  if (message.kind === 'ask') shareToken()
})

// The last chance before a reload or a restart of the browser.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) saveIfMissing()
})

/** Asks the other tabs for a token other than `refused`; whether one came. */
export function tokenFromTabs(refused: string | null): Promise<boolean> {
  const newer = () => accessToken !== null && accessToken.value !== refused
  if (tabChannel === null || newer()) return Promise.resolve(newer())
  const channel = tabChannel
  return new Promise((resolve) => {
    const timer = setTimeout(() => done(newer()), TAB_REPLY_MS)
    const onMessage = () => {
      if (newer()) done(true)
    }
    const done = (found: boolean) => {
      clearTimeout(timer)
      channel.removeEventListener('message', onMessage)
      resolve(found)
    }
    channel.addEventListener('message', onMessage)
    postToTabs({ kind: 'ask', base: current.base })
  })
}
