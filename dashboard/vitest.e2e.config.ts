import { configDefaults, defineConfig } from 'vitest/config'

/** Browsers beside Chromium take their time: `cargo xtask test --with browsers`. */
const others = (process.env.HEXA_WITH ?? '').split(' ').includes('browsers')

/** Tests in a real browser against a real server; one at a time, because they share two cores. */
export default defineConfig({
  test: {
    environment: 'node',
    include: ['e2e/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(others ? [] : ['e2e/browsers.test.ts'])],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 90_000,
    // Where a test hangs is said by name.
    reporters: ['verbose'],
  },
})
