/**
 * A long list, loaded page by page. Only visible pages are refreshed; the others are when they become visible again, so
 * that a list of 10,000 rows costs no more than one of 100.
 *
 * Pages are ranges of a keyset: when a page ends at another row than before, the next page starts there.
 */
import { useQueries, useQueryClient } from '@tanstack/react-query'
import { useCallback, useEffect, useMemo, useState } from 'react'
import { onSessionReset } from './resetSession'

export interface Page<T> {
  items: T[]
  next_cursor?: string | null
}

export interface Source<T> {
  /** The key of the whole list; another key is another list. */
  key: readonly unknown[]
  page: (cursor: string, signal: AbortSignal) => Promise<Page<T>>
  id: (row: T) => string
}

export interface KeysetPages<T> {
  rows: T[]
  /** Whether there are more rows after these. */
  more: boolean
  /** Whether the first page is still loading; until then the rows are those of the previous list. */
  pending: boolean
  error: unknown
  retry: () => void
  /** Sets the first and the last visible row. */
  setVisibleRange: (first: number, last: number) => void
}

/** How many rows below the visible ones are loaded in advance. */
const PREFETCH_ROWS = 20
const REFRESH_MS = 30_000

interface PageLink {
  cursor: string
  /** The former start of the page, whose rows are shown until the new ones arrive. */
  previousCursor?: string
}

const FIRST: readonly PageLink[] = [{ cursor: '' }]

/** How far each list was read, so that it is the same when the user returns. */
const savedChains = new Map<string, readonly PageLink[]>()
onSessionReset(() => savedChains.clear())

/** Links the pages by the cursors of their answers; gives back the same chain when nothing changed. */
export function relinkPages(chain: readonly PageLink[], nexts: readonly (string | null | undefined)[], wantMore: boolean): readonly PageLink[] {
  for (const [n, next] of nexts.entries()) {
    const following = chain[n + 1]
    if (next === undefined) return chain
    if (following === undefined) return next !== null && wantMore ? [...chain, { cursor: next }] : chain
    if (next === null) return chain.slice(0, n + 1)
    if (following.cursor !== next) return [...chain.slice(0, n + 1), { cursor: next, previousCursor: following.cursor }]
  }
  return chain
}

/** Loads the pages of a list as they become visible. */
export function useKeysetPages<T>({ key, page, id }: Source<T>): KeysetPages<T> {
  const client = useQueryClient()
  const hash = JSON.stringify(key)
  const restoredChain = (): readonly PageLink[] => {
    const saved = savedChains.get(hash) ?? FIRST
    const missing = saved.findIndex(({ cursor }) => client.getQueryData([...key, cursor]) === undefined)
    return missing < 0 ? saved : saved.slice(0, Math.max(missing, 1))
  }
  const [stored, setStored] = useState<{ hash: string; chain: readonly PageLink[] }>(() => ({ hash, chain: restoredChain() }))
  const chain = stored.hash === hash ? stored.chain : FIRST
  const [visible, setVisible] = useState({ first: 0, last: 0 })
  const [shown, setShown] = useState<T[]>([])

  const rowCounts = chain.map(({ cursor }) => client.getQueryData<Page<T>>([...key, cursor])?.items.length ?? 0)
  // A page without rows counts as one row.
  const isVisible = (n: number): boolean => {
    const start = rowCounts.slice(0, n).reduce((sum, rows) => sum + rows, 0)
    return start <= visible.last && start + Math.max(rowCounts[n] ?? 0, 1) > visible.first
  }
  const results = useQueries({
    queries: chain.map(({ cursor, previousCursor }, n) => ({
      queryKey: [...key, cursor],
      queryFn: ({ signal }: { signal: AbortSignal }) => page(cursor, signal),
      enabled: isVisible(n) ? true : (query: { state: { data: unknown } }) => query.state.data === undefined,
      refetchInterval: isVisible(n) ? REFRESH_MS : (false as const),
      placeholderData: () => (previousCursor === undefined ? undefined : client.getQueryData<Page<T>>([...key, previousCursor])),
    })),
  })

  const state = results.map((r) => `${r.dataUpdatedAt}${r.isPlaceholderData ? 'p' : ''}`).join()
  const rows = useMemo(() => {
    const ids = new Set<string>()
    const all: T[] = []
    for (const { data } of results)
      for (const row of data?.items ?? []) {
        const name = id(row)
        if (ids.has(name)) continue
        ids.add(name)
        all.push(row)
      }
    return all
    // eslint-disable-next-line react-hooks/exhaustive-deps -- `state` stands for the answers
  }, [hash, state])

  const wantMore = visible.last >= rows.length - PREFETCH_ROWS
  const nexts = results.map((r) => (r.data === undefined || r.isPlaceholderData ? undefined : (r.data.next_cursor ?? null)))
  const next = relinkPages(chain, nexts, wantMore)
  if (next !== chain || stored.hash !== hash) setStored({ hash, chain: next })
  useEffect(() => {
    savedChains.set(hash, next)
  }, [next, hash])

  const first = results[0]
  const pending = first?.data === undefined
  if (!pending && shown !== rows) setShown(rows)

  const failed = results.find((r) => r.isError)
  const setVisibleRange = useCallback((from: number, to: number) => {
    setVisible((was) => (was.first === from && was.last === to ? was : { first: from, last: to }))
  }, [])
  return {
    rows: pending ? shown : rows,
    more: next.length > results.length || (nexts.at(-1) ?? null) !== null || results.at(-1)?.data === undefined,
    pending,
    error: failed?.error ?? null,
    retry: () => {
      for (const result of results) if (result.isError) void result.refetch()
    },
    setVisibleRange,
  }
}
