// Words of the service; as words.js has them.

export const words = {
};
