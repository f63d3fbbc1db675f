// Words of the scorers; as words.js has them.

export const words = {
};
