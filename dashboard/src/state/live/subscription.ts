/** Which devices the page subscribes to: those that are shown by any component. */
import { ClientSocket } from '../../api/socket'
import { onSessionReset } from '../resetSession'
import { applyFrame, dropDevices, setConnectionState } from './store'

/** Rows come and go while the user scrolls: their changes are sent together, and also while the scrolling goes on. */
const UPDATE_AFTER_MS = 60

const socket = new ClientSocket(applyFrame, setConnectionState)

/** How many components show each device. */
const shown = new Map<string, number>()
let showingAll = 0
let timer: ReturnType<typeof setTimeout> | undefined

function updateSubscription(): void {
  timer ??= setTimeout(() => {
    timer = undefined
    socket.setSubscription({ all: showingAll > 0, devices: [...shown.keys()].sort() })
  }, UPDATE_AFTER_MS)
}

/** Without a subscription, the states of a device become outdated. */
const dropUnsubscribed = () => {
  if (showingAll === 0) dropDevices((uid) => shown.has(uid))
}

/** Subscribes to devices; the returned function ends that. */
export function subscribeDevices(uids: readonly string[]): () => void {
  for (const uid of uids) shown.set(uid, (shown.get(uid) ?? 0) + 1)
  updateSubscription()
  return () => {
    for (const uid of uids) {
      const left = (shown.get(uid) ?? 1) - 1
      if (left > 0) shown.set(uid, left)
      else shown.delete(uid)
    }
    dropUnsubscribed()
    updateSubscription()
  }
}

/** Subscribes to every device of the account; the returned function ends that. */
export function subscribeAll(): () => void {
  showingAll += 1
  updateSubscription()
  return () => {
    showingAll -= 1
    dropUnsubscribed()
    updateSubscription()
  }
}

// The next account gets a socket of its own; the components that stay subscribe again.
onSessionReset(() => {
  socket.close()
  dropDevices()
  updateSubscription()
})
