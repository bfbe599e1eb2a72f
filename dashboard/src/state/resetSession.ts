/** What a module of this page remembers of somebody, to be forgotten when they leave: the next one may be somebody else. */
const listeners = new Set<() => void>()

/** Called when whoever was signed in is no more. */
export function onForget(listener: () => void): void {
  listeners.add(listener)
}

export function forget(): void {
  for (const listener of listeners) listener()
}
