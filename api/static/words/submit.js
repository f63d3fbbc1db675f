// Words of submitting; as words.js has them.

export const words = {
};
