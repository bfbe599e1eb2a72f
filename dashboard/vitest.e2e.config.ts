import { defineConfig } from 'vitest/config'

/** Tests in a real browser against a real server; one at a time, because they share two cores. */
export default defineConfig({
  test: {
    environment: 'node',
    include: ['e2e/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 90_000,
    // Where a test hangs is said by name.
    reporters: ['verbose'],
  },
})
