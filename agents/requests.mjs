// Tells the scheduler of requests: a line of JSON each on the socket named in TAKT_REQUESTS. Without one, nothing happens.
import net from "node:net";

const ROOM = 65536;   // more than that unread, and the daemon is not listening: lines are dropped

export function teller(path) {
    let socket;

    function connection() {
        if (path && !socket) {
            const mine = socket = net.connect(path);
            mine.unref();
            for (const event of ["error", "close"]) mine.on(event, () => { if (socket === mine) socket = undefined; });
        }
        return socket;
    }

    return (event, id) => {
        const to = connection();
        if (to && to.writableLength < ROOM) to.write(JSON.stringify({event, id}) + "\n");
    };
}
