// Words of comparing two records, samples and notes; as words.js has them.

export const words = {
};
