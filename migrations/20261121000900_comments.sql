-- What users write about a project, an invoice or a product.
create table comments (
    tenant_id  uuid        not null default app.tenant_id(),
    id         uuid        not null,
    author_id  uuid        not null,
    -- One column per kind of subject, so that foreign keys ensure that the subject belongs to the same tenant.
    project_id uuid,
    invoice_id uuid,
    product_id uuid,
    body       text        not null,
    version    integer     not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint comments_pkey primary key (tenant_id, id),
    constraint comments_one_subject check (num_nonnulls(project_id, invoice_id, product_id) = 1),
    constraint comments_body_length check (length(body) between 1 and 10000)
);

select app.protect('comments', subject => 'comment', project => 'project_id',
                   project_through => 'invoices', through_column => 'invoice_id');
select app.own_rows('comments', 'author_id',
                    writers => '{OWNER,ADMIN,MEMBER,BILLING}', delete_all => '{OWNER,ADMIN}');
-- No ON DELETE CASCADE: it would bypass the policies, which let only the author, admins and owners delete a
-- comment. Before the service deletes a subject, it deletes those of its comments that the caller may delete.
alter table comments
    add constraint comments_author_fkey foreign key (tenant_id, author_id) references users (tenant_id, id);
alter table comments
    add constraint comments_project_fkey foreign key (tenant_id, project_id) references projects (tenant_id, id);
alter table comments
    add constraint comments_invoice_fkey foreign key (tenant_id, invoice_id) references invoices (tenant_id, id);
alter table comments
    add constraint comments_product_fkey foreign key (tenant_id, product_id) references products (tenant_id, id);

-- Serve the orders of Query.comments.
create index comments_created_at_idx on comments (tenant_id, created_at desc, id desc);
create index comments_updated_at_idx on comments (tenant_id, updated_at desc, id desc);
-- Serve the comments of each subject and of each author. A comment has one subject, so it is in only one of the
-- first three indexes.
create index comments_project_idx on comments (tenant_id, project_id, created_at desc, id desc)
    where project_id is not null;
create index comments_invoice_idx on comments (tenant_id, invoice_id, created_at desc, id desc)
    where invoice_id is not null;
create index comments_product_idx on comments (tenant_id, product_id, created_at desc, id desc)
    where product_id is not null;
create index comments_author_idx on comments (tenant_id, author_id, created_at desc, id desc);
