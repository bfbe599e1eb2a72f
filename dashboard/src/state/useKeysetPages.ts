/**
 * A long list, page by page from the server. Pages in sight are asked for again when they may be old; the others keep
 * what they have until somebody scrolls back to them: a list of 10,000 rows costs no more to keep than one of 100.
 *
 * Pages are ranges of a keyset: one that ends elsewhere than before moves the beginning of the next one.
 */
import { useQueries, useQueryClient } from '@tanstack/react-query'
import { useCallback, useEffect, useMemo, useState } from 'react'
import { onForget } from './resetSession'

export interface Page<T> {
  items: T[]
  next_cursor?: string | null
}

export interface Source<T> {
  /** Of all pages; another key is another list. */
  key: readonly unknown[]
  page: (cursor: string, signal: AbortSignal) => Promise<Page<T>>
  id: (row: T) => string
}

export interface Pages<T> {
  rows: T[]
  /** There are further rows behind these. */
  more: boolean
  /** Nothing came yet; the rows are those of the list before. */
  pending: boolean
  error: unknown
  retry: () => void
  /** From which row to which one somebody sees. */
  look: (first: number, last: number) => void
}

/** Rows below those in sight that are to be there already. */
const AHEAD = 20
const AGAIN_MS = 30_000

interface Link {
  cursor: string
  /** Where the page began until now: its rows are shown until the new ones come. */
  before?: string
}

const FIRST: readonly Link[] = [{ cursor: '' }]

/** How far lists were read: who comes back finds them so, as far as their answers are still there. */
const read = new Map<string, readonly Link[]>()
onForget(() => read.clear())

/** The chain of pages as their answers say it is; the same one where nothing changed. */
export function rechained(chain: readonly Link[], nexts: readonly (string | null | undefined)[], wantMore: boolean): readonly Link[] {
  for (const [n, next] of nexts.entries()) {
    const following = chain[n + 1]
    if (next === undefined) return chain
    if (following === undefined) return next !== null && wantMore ? [...chain, { cursor: next }] : chain
    if (next === null) return chain.slice(0, n + 1)
    if (following.cursor !== next) return [...chain.slice(0, n + 1), { cursor: next, before: following.cursor }]
  }
  return chain
}

export function usePages<T>({ key, page, id }: Source<T>): Pages<T> {
  const client = useQueryClient()
  const hash = JSON.stringify(key)
  const begin = (): readonly Link[] => {
    const before = read.get(hash) ?? FIRST
    const gone = before.findIndex(({ cursor }) => client.getQueryData([...key, cursor]) === undefined)
    return gone < 0 ? before : before.slice(0, Math.max(gone, 1))
  }
  const [kept, setKept] = useState<{ hash: string; chain: readonly Link[] }>(() => ({ hash, chain: begin() }))
  const chain = kept.hash === hash ? kept.chain : FIRST
  const [seen, setSeen] = useState({ first: 0, last: 0 })
  const [shown, setShown] = useState<T[]>([])

  const known = chain.map(({ cursor }) => client.getQueryData<Page<T>>([...key, cursor])?.items.length ?? 0)
  // A page without rows is seen where its rows would be.
  const inSight = (n: number): boolean => {
    const start = known.slice(0, n).reduce((sum, rows) => sum + rows, 0)
    return start <= seen.last && start + Math.max(known[n] ?? 0, 1) > seen.first
  }
  const results = useQueries({
    queries: chain.map(({ cursor, before }, n) => ({
      queryKey: [...key, cursor],
      queryFn: ({ signal }: { signal: AbortSignal }) => page(cursor, signal),
      enabled: inSight(n) ? true : (query: { state: { data: unknown } }) => query.state.data === undefined,
      refetchInterval: inSight(n) ? AGAIN_MS : (false as const),
      placeholderData: () => (before === undefined ? undefined : client.getQueryData<Page<T>>([...key, before])),
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
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the answers, by the times when they came
  }, [hash, state])

  const wantMore = seen.last >= rows.length - AHEAD
  const nexts = results.map((r) => (r.data === undefined || r.isPlaceholderData ? undefined : (r.data.next_cursor ?? null)))
  const next = rechained(chain, nexts, wantMore)
  if (next !== chain || kept.hash !== hash) setKept({ hash, chain: next })
  useEffect(() => {
    read.set(hash, next)
  }, [next, hash])

  const first = results[0]
  const pending = first?.data === undefined
  if (!pending && shown !== rows) setShown(rows)

  const failed = results.find((r) => r.isError)
  const look = useCallback((from: number, to: number) => {
    setSeen((was) => (was.first === from && was.last === to ? was : { first: from, last: to }))
  }, [])
  return {
    rows: pending ? shown : rows,
    more: next.length > results.length || (nexts.at(-1) ?? null) !== null || results.at(-1)?.data === undefined,
    pending,
    error: failed?.error ?? null,
    retry: () => {
      for (const result of results) if (result.isError) void result.refetch()
    },
    look,
  }
}
