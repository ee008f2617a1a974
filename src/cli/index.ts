export async function main(_argv: readonly string[]): Promise<number> {
  return await Promise.resolve(0);
}
