import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { act, renderHook, waitFor } from '@testing-library/react'
import type { ReactNode } from 'react'
import { beforeEach, expect, test } from 'vitest'
import { relinkPages, useKeysetPages } from './useKeysetPages'

const PAGE = 50

/** The rows of a server, in order, and the cursors that were requested. */
let store: number[] = []
let requested: string[] = []
let down = false

const page = (cursor: string) => {
  requested.push(cursor)
  if (down) return Promise.reject(new Error('down'))
  const after = cursor === '' ? -1 : Number(cursor)
  const items = store.filter((row) => row > after).slice(0, PAGE)
  const last = items.at(-1) ?? after
  return Promise.resolve({ items, next_cursor: store.some((row) => row > last) ? String(last) : null })
}

beforeEach(() => {
  store = Array.from({ length: 500 }, (_, n) => n * 10)
  requested = []
  down = false
})

function opened() {
  const client = new QueryClient({ defaultOptions: { queries: { staleTime: 10_000, retry: false } } })
  const wrapper = ({ children }: { children: ReactNode }) => <QueryClientProvider client={client}>{children}</QueryClientProvider>
  const hook = renderHook(({ name }) => useKeysetPages({ key: ['rows', name], page, id: String }), { wrapper, initialProps: { name: 'all' } })
  return { client, ...hook }
}

type Opened = ReturnType<typeof opened>

async function toTheEnd({ result }: Opened) {
  await waitFor(() => expect(result.current.rows.length).toBeGreaterThan(0))
  while (result.current.more) {
    const { length } = result.current.rows
    act(() => result.current.setVisibleRange(length - 10, length - 1))
    await waitFor(() => expect(result.current.rows.length > length || !result.current.more).toBe(true))
  }
}

test('pages load while scrolling, and only visible ones are refreshed', async () => {
  const list = opened()
  await waitFor(() => expect(list.result.current.rows.length).toBe(PAGE))
  expect(requested).toEqual([''])
  await toTheEnd(list)
  expect(list.result.current.rows).toEqual(store)
  expect(requested.length).toBe(10)
  requested = []
  await act(() => list.client.invalidateQueries({ queryKey: ['rows'] }))
  await waitFor(() => expect(requested.length).toBeGreaterThan(0))
  expect(requested.length).toBeLessThanOrEqual(2)
  // Scrolling back refreshes the page there.
  store = store.filter((row) => row !== 30)
  act(() => list.result.current.setVisibleRange(0, 10))
  await waitFor(() => expect(list.result.current.rows).not.toContain(30))
})

test('rows that are added or removed in the middle are neither lost nor duplicated', async () => {
  const list = opened()
  await toTheEnd(list)
  act(() => list.result.current.setVisibleRange(45, 55))
  store = [...store.filter((row) => row !== 20 && row !== 470 && row !== 510), 5, 475, 1001].sort((a, b) => a - b)
  await act(() => list.client.invalidateQueries({ queryKey: ['rows'] }))
  await toTheEnd(list)
  await waitFor(() => expect(list.result.current.rows).toEqual(store))
})

test('another list shows the rows of the previous one until its own arrive', async () => {
  const list = opened()
  await waitFor(() => expect(list.result.current.rows.length).toBe(PAGE))
  store = [7]
  list.rerender({ name: 'few' })
  expect(list.result.current.pending).toBe(true)
  expect(list.result.current.rows.length).toBe(PAGE)
  await waitFor(() => expect(list.result.current.rows).toEqual([7]))
  expect(list.result.current.more).toBe(false)
})

test('a failed page is reported, and requested again by retry', async () => {
  const list = opened()
  await waitFor(() => expect(list.result.current.rows.length).toBe(PAGE))
  down = true
  act(() => list.result.current.setVisibleRange(40, 49))
  await waitFor(() => expect(list.result.current.error).not.toBeNull())
  expect(list.result.current.rows.length).toBe(PAGE)
  down = false
  act(() => list.result.current.retry())
  await waitFor(() => expect(list.result.current.rows.length).toBe(2 * PAGE))
  expect(list.result.current.error).toBeNull()
})

test('the chain of pages follows the cursors of their answers', () => {
  const chain = [{ cursor: '' }, { cursor: 'b' }, { cursor: 'c' }]
  expect(relinkPages(chain, ['b', 'c', null], true)).toBe(chain)
  expect(relinkPages(chain, ['b', 'c', 'd'], true).length).toBe(4)
  expect(relinkPages(chain, ['b', 'c', 'd'], false)).toBe(chain)
  expect(relinkPages(chain, ['x', 'c', 'd'], true)).toEqual([{ cursor: '' }, { cursor: 'x', previousCursor: 'b' }])
  expect(relinkPages(chain, [null, 'c', 'd'], true)).toEqual([{ cursor: '' }])
  expect(relinkPages(chain, [undefined, 'c', 'd'], true)).toBe(chain)
})
