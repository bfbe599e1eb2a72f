import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import react from '@vitejs/plugin-react'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

/** The placeholder that the server replaces with the nonce of each answer (core/api/src/dashboard.rs). */
const NONCE = '__HEXA_NONCE__'

/** Writes a Brotli and a gzip file beside every file but the page, so that the server need not compress. */
function compressed(): Plugin {
  let out = 'dist'
  return {
    name: 'hexa-compressed',
    apply: 'build',
    configResolved(config) {
      out = config.build.outDir
    },
    closeBundle() {
      const walk = (dir: string) => {
        for (const entry of readdirSync(dir)) {
          const path = join(dir, entry)
          if (statSync(path).isDirectory()) walk(path)
          else if (entry !== 'index.html' && entry !== '.gitkeep') {
            const bytes = readFileSync(path)
            // Fonts are compressed already.
            if (/\.(woff2|br|gz)$/.test(entry)) continue
            const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length }
            writeFileSync(`${path}.br`, brotliCompressSync(bytes, { params }))
            writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }))
          }
        }
      }
      walk(out)
    },
  }
}

/** Makes the page name its files from the root, because its own URL may have any depth; the server may add a path. */
function rooted(): Plugin {
  return {
    name: 'hexa-rooted',
    apply: 'build',
    enforce: 'post',
    generateBundle: {
      order: 'post',
      handler(_, bundle) {
        const page = bundle['index.html']
        const text = page?.type === 'asset' ? String(page.source).replaceAll('"./assets/', '"/dashboard/assets/') : ''
        if (page?.type !== 'asset' || !text.includes('"/dashboard/assets/')) this.error('the page does not name its files as expected')
        page.source = text
      },
    },
  }
}

/**
 * Makes dynamic imports call `hexaImport` (src/api/lazyModule.ts), which requests a file that failed to load under another
 * URL: browsers that cache failures in their module map never fetch the same URL again.
 */
function retryableImports(): Plugin {
  const IMPORT = /\bimport\(([`'"]\.\/[\w.-]+\.js[`'"])\)/g
  return {
    name: 'hexa-retryable-imports',
    apply: 'build',
    enforce: 'post',
    generateBundle: {
      order: 'post',
      handler(_, bundle) {
        let imports = 0
        for (const file of Object.values(bundle))
          if (file.type === 'chunk')
            file.code = file.code.replace(IMPORT, (_all, name: string) => {
              imports += 1
              return `hexaImport(${name},e=>import(e))`
            })
        if (imports === 0) this.error('no dynamic import was found; the bundler may write them differently now')
      },
    },
  }
}

/** The modules of `@mantine/form`. */
const FORMS = /node_modules\/(@mantine\/form|klona|fast-deep-equal)\//

/** The server that the development server forwards to. */
const server = process.env.HEXA_SERVER ?? 'http://127.0.0.1:8080'

/** `Origin` becomes the server's own, so that sessions in cookies work from here as well. */
const proxied = { target: server, changeOrigin: true, ws: true, headers: { origin: server } }

export default defineConfig(({ command }) => ({
  // Relative paths, because a proxy may serve everything below a path.
  base: command === 'build' ? './' : '/dashboard/',
  html: { cspNonce: NONCE },
  plugins: [react(), rooted(), retryableImports(), compressed()],
  build: {
    target: 'es2022',
    // Nothing is inlined, so that every page loads only what it shows.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 500,
    rolldownOptions: {
      output: {
        codeSplitting: {
          // Modules of several pages are one file: many small files cost more in requests than they save. Forms are not
          // part of it, because the first load needs none.
          groups: [{ name: 'shared', test: (id) => !FORMS.test(id), minShareCount: 3, minModuleSize: 0, minSize: 0 }],
        },
      },
    },
  },
  server: { proxy: { '/api': proxied, '/ws': proxied, '/metrics': proxied, '/health': proxied } },
  test: { environment: 'jsdom', include: ['src/**/*.test.{ts,tsx}'], setupFiles: ['src/test-setup.ts'] },
}))
