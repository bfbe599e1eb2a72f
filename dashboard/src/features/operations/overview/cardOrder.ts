const CARDS = ['fleet', 'commands', 'latency', 'audit', 'plugins'] as const
export type CardId = (typeof CARDS)[number]

/** The saved order of the overview's cards; cards that it does not know follow at the end. */
export function cardOrder(saved: readonly string[] | undefined): CardId[] {
  const known = (saved ?? []).filter((id): id is CardId => (CARDS as readonly string[]).includes(id))
  return [...new Set([...known, ...CARDS])]
}
