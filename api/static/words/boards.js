// Words of benchmarks, their boards, and workspaces; as words.js has them.

export const words = {
};
