/** The cache of answers. Each room has its own queries (features/<room>/queries.ts). */
import { QueryClient } from '@tanstack/react-query'
import { ApiError } from './error'

const NO_ANSWER_CODES = new Set(['unreachable', 'no_answer'])

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      // An error of the server is final; a request without an answer is repeated.
      retry: (count, error) => count < 2 && (!(error instanceof ApiError) || NO_ANSWER_CODES.has(error.code) || error.status >= 502),
      retryDelay: (count) => 500 * 2 ** count,
      refetchOnWindowFocus: true,
      // Send requests even when the browser believes to be offline, and never delay a click until it is online again.
      networkMode: 'always',
    },
    mutations: { retry: false, networkMode: 'always' },
  },
})
