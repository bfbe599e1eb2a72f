/** Live states of devices. */
export * from './hooks'
export { newestPresence, newestRelayState, type Presence, usePresence } from './presence'
export { applyConfirmed, type LiveDevice, liveDevice, onReconnect } from './store'
