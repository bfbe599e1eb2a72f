/** What went wrong, in the words of the server where it spoke (docs/API.md, Errors). */
export class ApiError extends Error {
  override name = 'ApiError'

  constructor(
    readonly code: string,
    message: string,
    /** 0 where there was no answer. */
    readonly status = 0,
    readonly requestId: string | null = null,
    readonly details: Record<string, unknown> | null = null,
    /** Seconds to wait, where the server said so. */
    readonly retryAfter: number | null = null,
  ) {
    super(message)
  }

  /** There was no answer: nobody knows what the request did. */
  get unanswered(): boolean {
    return this.status === 0
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

/** Reads the error of an answer; also one that somebody between here and the server made. */
export function fromAnswer(response: Response, body: unknown): ApiError {
  const wait = Number(response.headers.get('retry-after') ?? NaN)
  const retryAfter = Number.isFinite(wait) ? wait : null
  if (isObject(body) && typeof body.code === 'string' && typeof body.message === 'string') {
    const id = typeof body.request_id === 'string' ? body.request_id : response.headers.get('x-request-id')
    return new ApiError(body.code, body.message, response.status, id, isObject(body.details) ? body.details : null, retryAfter)
  }
  const what = `the answer was ${response.status} ${response.statusText}, not in the server's words; is a proxy in between?`
  return new ApiError('not_an_answer', what, response.status, response.headers.get('x-request-id'), null, retryAfter)
}

/** `fetch` says no more than `TypeError` where there is nobody: only here, where it is known what it means. */
export async function unreachable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (thrown) {
    if (thrown instanceof TypeError) throw new ApiError('unreachable', 'the server cannot be reached; is it running?')
    throw thrown
  }
}

/** Whatever was thrown, as an [`ApiError`]. */
export function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown
  if (thrown instanceof DOMException && thrown.name === 'TimeoutError')
    return new ApiError('no_answer', 'the server did not answer in time')
  if (thrown instanceof SyntaxError) return new ApiError('malformed_answer', 'the answer is not JSON; is this a Hexa server?')
  // A fault of the page's own, or data that it did not expect.
  return new ApiError('unexpected', thrown instanceof Error ? thrown.message : String(thrown))
}
