import { configDefaults, defineConfig } from 'vitest/config'

/** Other browsers than Chromium are slow to start: `cargo xtask test --with browsers` includes them. */
const others = (process.env.HEXA_WITH ?? '').split(' ').includes('browsers')

/** Tests in a real browser against a real server; one file at a time, because they share two cores. */
export default defineConfig({
  test: {
    environment: 'node',
    include: ['e2e/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(others ? [] : ['e2e/browsers.test.ts'])],
    fileParallelism: false,
    testTimeout: 90_000,
    hookTimeout: 90_000,
    // Shows the name of a test that hangs.
    reporters: ['verbose'],
  },
})
