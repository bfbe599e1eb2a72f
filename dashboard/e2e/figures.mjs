// Runs figures.ts, which Node alone cannot read yet.
import { resolve } from 'node:path'
import { runnerImport } from 'vite'

await runnerImport(resolve(import.meta.dirname, 'figures.ts'), { configFile: false, logLevel: 'error' })
