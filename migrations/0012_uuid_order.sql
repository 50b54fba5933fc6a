-- The ids that the database makes now also follow one another within a millisecond: the entries that
-- one transaction leaves in the audit log have one time, and their ids decide their order.

-- A UUID of version 7 (RFC 9562, 5.7) with 12 bits of the millisecond's fraction behind the version
-- (6.2, method 3): a step is 0.25 microseconds, and the clock tells whole ones.
create or replace function app.uuid_v7() returns uuid
    language sql volatile parallel safe
    return (
        select encode(
            set_byte(
                set_byte(
                    overlay(
                        uuid_send(gen_random_uuid())
                        placing substring(int8send(micros / 1000) from 3)
                        from 1 for 6
                    ),
                    6,
                    (112 | (micros % 1000 * 4096 / 1000 >> 8))::integer
                ),
                7,
                (micros % 1000 * 4096 / 1000 & 255)::integer
            ),
            'hex'
        )::uuid
        -- Its own row, so that the clock is read once.
        from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint as micros) as clock);
