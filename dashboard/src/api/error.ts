/** An error with the server's code and message, where the server answered (docs/API.md, Errors). */
export class ApiError extends Error {
  override name = 'ApiError'

  constructor(
    readonly code: string,
    message: string,
    /** The HTTP status; 0 without an answer. */
    readonly status = 0,
    readonly requestId: string | null = null,
    readonly details: Record<string, unknown> | null = null,
    /** Seconds to wait before another attempt, where the server said so. */
    readonly retryAfter: number | null = null,
  ) {
    super(message)
  }

  /** Whether there was no answer, so that the effect of the request is unknown. */
  get unanswered(): boolean {
    return this.status === 0
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

/** Reads the error of an answer, which may come from a proxy instead of the server. */
export function fromAnswer(response: Response, body: unknown): ApiError {
  const wait = Number(response.headers.get('retry-after') ?? NaN)
  const retryAfter = Number.isFinite(wait) ? wait : null
  if (isObject(body) && typeof body.code === 'string' && typeof body.message === 'string') {
    const id = typeof body.request_id === 'string' ? body.request_id : response.headers.get('x-request-id')
    return new ApiError(body.code, body.message, response.status, id, isObject(body.details) ? body.details : null, retryAfter)
  }
  const what = `the answer ${response.status} ${response.statusText} does not come from a Hexa server; check the proxy in front of it, then try again`
  return new ApiError('not_an_answer', what, response.status, response.headers.get('x-request-id'), null, retryAfter)
}

/** Turns the `TypeError` of a failed `fetch` into an [`ApiError`]; elsewhere a `TypeError` is a fault of the page. */
export async function unreachable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (thrown) {
    if (thrown instanceof TypeError) throw new ApiError('unreachable', 'the server cannot be reached; check your connection and that the server is running, then try again')
    throw thrown
  }
}

/** Anything that was thrown, as an [`ApiError`]. */
export function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown
  if (thrown instanceof DOMException && thrown.name === 'TimeoutError')
    return new ApiError('no_answer', 'the server did not answer in time; try again')
  if (thrown instanceof SyntaxError) return new ApiError('malformed_answer', 'the answer is not JSON; check that the address is that of a Hexa server')
  // A fault of the page, or data that it did not expect.
  return new ApiError('unexpected', thrown instanceof Error ? thrown.message : String(thrown))
}
