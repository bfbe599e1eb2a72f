/** A list of events, newest first: it refreshes while only the newest page is shown, and pauses once older ones are. */
import { type InfiniteData, keepPreviousData, useInfiniteQuery, useQueryClient } from '@tanstack/react-query'
import type { Page } from './useKeysetPages'

interface Timeline<T> {
  rows: T[]
  /** Whether older pages are shown, so that the list does not refresh. */
  paused: boolean
  /** Drops the older pages, and refreshes. */
  showNewest: () => void
  /** Refreshes the newest page, unless the list is paused. */
  refreshNewest: () => void
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

const pageCount = (query: { state: { data: InfiniteData<unknown> | undefined } }): number => query.state.data?.pages.length ?? 0

/** Running requests are not restarted: with frequent events, none would ever complete. */
const KEEP_RUNNING = { cancelRefetch: false }

/** A timeline whose newest page is refreshed every `everyMs`. */
export function useTimeline<T>({ key, page }: Source<T>, everyMs: number | false): Timeline<T> {
  const client = useQueryClient()
  const query = useInfiniteQuery({
    queryKey: key,
    queryFn: ({ signal, pageParam }: { signal: AbortSignal; pageParam: string }) => page(pageParam, signal),
    initialPageParam: '',
    getNextPageParam: (last: Page<T>) => last.next_cursor ?? undefined,
    placeholderData: keepPreviousData,
    refetchInterval: (q) => (pageCount(q) <= 1 ? everyMs : false),
    refetchOnWindowFocus: (q) => pageCount(q) <= 1,
  })
  return {
    rows: query.data?.pages.flatMap((one) => one.items) ?? [],
    paused: (query.data?.pages.length ?? 0) > 1,
    showNewest: () => {
      client.setQueryData<Data<T>>(key, (data) =>
        data === undefined ? data : { pages: data.pages.slice(0, 1), pageParams: data.pageParams.slice(0, 1) },
      )
      void client.invalidateQueries({ queryKey: key })
    },
    refreshNewest: () => {
      if ((client.getQueryData<Data<T>>(key)?.pages.length ?? 0) <= 1) void client.invalidateQueries({ queryKey: key }, KEEP_RUNNING)
    },
    query,
  }
}
