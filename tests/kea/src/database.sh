#!/bin/sh
# Runs the database server of one test; called by the module `database`, on this machine or in a container.
#
# database.sh prepare KIND ADDRESS DIRECTORY  creates a server's files, with the schema of Kea's databases
# database.sh serve KIND ADDRESS DIRECTORY    runs the server on them until standard input ends
# database.sh sql KIND ADDRESS                executes the statements on standard input
#
# KIND is postgresql or mariadb, ADDRESS the server's address.
set -eu

# One port for all servers: their addresses differ.
port=6769

# The schemas, from Kea's package kea-admin.
schemas=/usr/share/kea/scripts

# Data need not survive a crash of the machine: no synchronous writes.
run_postgresql() {
    exec "$(postgresql_programs)/postgres" -D "$directory/data" -h "$address" -p "$port" -k "" \
        -c fsync=off -c full_page_writes=off -c synchronous_commit=off \
        -c wal_level=minimal -c max_wal_senders=0 -c shared_buffers=16MB -c jit=off
}

# Debian installs the programs outside the search path, in one directory for each release.
postgresql_programs() {
    found=
    for directory_of_release in /usr/lib/postgresql/*/bin; do found=$directory_of_release; done
    [ -x "$found/postgres" ] || { echo "no PostgreSQL server is installed" >&2; exit 1; }
    echo "$found"
}

prepare_postgresql() {
    "$(postgresql_programs)/initdb" -D "$directory/data" -U root -A trust -E UTF8 --no-locale --no-sync
}

create_postgresql() {
    sql_postgresql root postgres <<END
CREATE USER kea PASSWORD 'kea';
CREATE DATABASE kea OWNER kea;
END
    sql_postgresql kea kea <"$schemas/pgsql/dhcpdb_create.pgsql"
}

sql_postgresql() {
    psql -X -q -A -t -F "$(printf '\t')" -v ON_ERROR_STOP=1 -h "$address" -p "$port" -U "$1" "$2"
}

stop_postgresql() {
    kill -INT "$1"
}

# Options of both mariadbd and mariadb-install-db. A starting server removes files that look like
# temporary tables of a crashed one: in a shared directory they could be another server's.
mariadb_options() {
    echo --no-defaults "--datadir=$directory/data" "--tmpdir=$directory" --innodb-log-file-size=4M \
        --innodb-undo-tablespaces=0 --innodb-flush-method=nosync --skip-innodb-doublewrite \
        --innodb-flush-log-at-trx-commit=0 --aria-log-file-size=8M --debug-no-sync
}

run_mariadb() {
    # shellcheck disable=SC2046 # No option has blanks.
    exec mariadbd $(mariadb_options) --bind-address="$address" --port="$port" \
        --socket="$directory/socket" --pid-file="$directory/pid" --skip-log-bin \
        --skip-name-resolve --innodb-buffer-pool-size=32M --innodb-fast-shutdown=2 \
        --log-bin-trust-function-creators=1
}

prepare_mariadb() {
    # shellcheck disable=SC2046
    mariadb-install-db $(mariadb_options) --skip-name-resolve --skip-test-db \
        --auth-root-authentication-method=normal
}

create_mariadb() {
    mariadb --no-defaults --socket="$directory/socket" --user=root <<END
CREATE DATABASE kea;
CREATE USER 'kea'@'%' IDENTIFIED BY 'kea';
GRANT ALL ON kea.* TO 'kea'@'%';
END
    sql_mariadb kea kea <"$schemas/mysql/dhcpdb_create.mysql"
}

sql_mariadb() {
    mariadb --no-defaults --batch --skip-column-names --skip-ssl -h "$address" -P "$port" \
        --user="$1" --password=kea "$2"
}

stop_mariadb() {
    kill -TERM "$1"
}

# Starts the server in the background, with its process id in $server, and waits until it is ready.
start() {
    "run_$kind" &
    server=$!
    trap '"stop_$kind" "$server"; wait "$server"' EXIT
    until accepts; do
        kill -0 "$server" || exit 1
        sleep 0.05
    done
}

# Whether the server accepts statements.
accepts() {
    case $kind in
    postgresql) echo "SELECT 1" | sql_postgresql root postgres ;;
    mariadb) mariadb --no-defaults --socket="$directory/socket" --user=root -e "SELECT 1" ;;
    esac >/dev/null 2>&1
}

kind=$2
address=$3
directory=${4:-}
case $1 in
prepare)
    "prepare_$kind"
    start
    "create_$kind"
    ;;
serve)
    start
    echo "ready"
    cat >/dev/null
    ;;
sql)
    "sql_$kind" kea kea
    ;;
esac
