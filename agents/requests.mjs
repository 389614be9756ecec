// Tells the scheduler of requests: a line of JSON each on the socket named in TAKT_REQUESTS. Without one, nothing happens.
import net from "node:net";

const path = process.env.TAKT_REQUESTS;
let socket;

function connection() {
    if (path && !socket) {
        socket = net.connect(path);
        socket.unref();
        for (const event of ["error", "close"]) socket.on(event, () => { socket = undefined; });
    }
    return socket;
}

export function tell(event, id) {
    connection()?.write(JSON.stringify({event, id}) + "\n");
}
