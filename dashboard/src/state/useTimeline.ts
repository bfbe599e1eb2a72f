/** What happened, newest first: the newest page stays fresh, and who reads further down is left alone. */
import { type InfiniteData, keepPreviousData, useInfiniteQuery, useQueryClient } from '@tanstack/react-query'
import type { Page } from './useKeysetPages'

interface Timeline<T> {
  rows: T[]
  /** Earlier pages are shown, so that nothing new comes in by itself. */
  still: boolean
  /** Back to the newest page alone. */
  newest: () => void
  /** Something happened: the newest page is asked for, unless somebody reads further down. */
  happened: () => void
  query: {
    isPending: boolean
    isError: boolean
    error: unknown
    hasNextPage: boolean
    isFetchingNextPage: boolean
    fetchNextPage: () => unknown
    refetch: () => unknown
  }
}

interface Source<T> {
  key: readonly unknown[]
  page: (cursor: string, signal: AbortSignal) => Promise<Page<T>>
}

type Data<T> = InfiniteData<Page<T>, string>

const pagesOf = (query: { state: { data: InfiniteData<unknown> | undefined } }): number => query.state.data?.pages.length ?? 0

/** What is under way goes on: a device that never rests would have no answer ever come. */
const UNHURRIED = { cancelRefetch: false }

/** `everyMs`: how often the newest page is asked for by itself. */
export function useTimeline<T>({ key, page }: Source<T>, everyMs: number | false): Timeline<T> {
  const client = useQueryClient()
  const query = useInfiniteQuery({
    queryKey: key,
    queryFn: ({ signal, pageParam }: { signal: AbortSignal; pageParam: string }) => page(pageParam, signal),
    initialPageParam: '',
    getNextPageParam: (last: Page<T>) => last.next_cursor ?? undefined,
    placeholderData: keepPreviousData,
    refetchInterval: (q) => (pagesOf(q) <= 1 ? everyMs : false),
    refetchOnWindowFocus: (q) => pagesOf(q) <= 1,
  })
  return {
    rows: query.data?.pages.flatMap((one) => one.items) ?? [],
    still: (query.data?.pages.length ?? 0) > 1,
    newest: () => {
      client.setQueryData<Data<T>>(key, (data) =>
        data === undefined ? data : { pages: data.pages.slice(0, 1), pageParams: data.pageParams.slice(0, 1) },
      )
      void client.invalidateQueries({ queryKey: key })
    },
    happened: () => {
      if ((client.getQueryData<Data<T>>(key)?.pages.length ?? 0) <= 1) void client.invalidateQueries({ queryKey: key }, UNHURRIED)
    },
    query,
  }
}
