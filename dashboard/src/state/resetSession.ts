/** Modules that hold data of the signed-in account register here, and drop it when the session ends. */
const listeners = new Set<() => void>()

/** Calls when the session ends. */
export function onSessionReset(listener: () => void): void {
  listeners.add(listener)
}

/** Drops the data of the account whose session has ended. */
export function resetSession(): void {
  for (const listener of listeners) listener()
}
